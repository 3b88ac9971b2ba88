"""The chart of a report: a bar for each step of 5, 10, 20, 50, … ms, divided by outcome. A template renders it as SVG.

Response times span three powers of ten, hence the steps. Lengths are percentages: the chart follows the width of the
page while its text keeps its size. Calls without a response time have bars of their own at the end.
"""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass

from django.utils.translation import gettext as _

from asyncsite.models import Call
from asyncsite.summary import describe_outcomes, percentile, response_times

STEP_STARTS_MS = (0, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
#: The rows of calls without a response time, after those of the steps.
NO_RESPONSE, NOT_CALLED = len(STEP_STARTS_MS), len(STEP_STARTS_MS) + 1
ROW_HEIGHT_PX = 32
BAR_HEIGHT_PX = 20
AXIS_HEIGHT_PX = 28
#: Characters of labels for which there is more space before the bars. Translations may be long.
LONG_LABEL_LENGTH, VERY_LONG_LABEL_LENGTH = 16, 21


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The part of a bar that one outcome has. ``x`` and ``width`` are percentages of the longest bar."""

    outcome: str
    text: str
    x: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Bar:
    label: str
    segments: list[Segment]
    count: int
    text: str
    note: str
    y: int
    text_y: int
    end: float  # percent


@dataclass(frozen=True, kw_only=True)
class Chart:
    bars: list[Bar]
    height: int
    axis_y: int
    bar_height: int
    description: str
    label_class: str


def build_chart(calls):
    """Return the Chart of calls, or None if there are none."""
    counts = Counter((find_row(call), call.outcome) for call in calls)
    if not counts:
        return None
    by_row = Counter()
    for (row, _outcome), count in counts.items():
        by_row[row] += count
    times = response_times(calls)
    notes = {find_step(percentile(times, 95)): [_("95%")]} if times else {}
    if times:
        notes.setdefault(find_step(percentile(times, 50)), []).insert(0, _("median"))
    steps = sorted(row for row in by_row if row < NO_RESPONSE)
    # Steps without calls between others are one bar.
    rows = [*(range(min(steps), max(steps) + 1) if steps else ()), NO_RESPONSE, NOT_CALLED]
    shown = [row for row in rows if row in by_row or (row < NO_RESPONSE and row - 1 in by_row)]
    bars = [
        build_bar(
            row,
            row if row in by_row else next(step for step in steps if step > row) - 1,
            {outcome: counts[row, outcome] for outcome in Call.Outcome.values},
            max(by_row.values()),
            place=place,
            note=", ".join(notes.get(row, [])),
        )
        for place, row in enumerate(shown)
    ]
    axis_y = len(bars) * ROW_HEIGHT_PX
    return Chart(
        bars=bars,
        height=axis_y + AXIS_HEIGHT_PX,
        axis_y=axis_y,
        bar_height=BAR_HEIGHT_PX,
        description=describe(bars),
        label_class=find_label_class([_("Response time"), *(bar.label for bar in bars)]),
    )


def find_row(call):
    if call.outcome == Call.Outcome.REFUSED:
        return NOT_CALLED
    if call.status is None or call.elapsed_ms is None:
        return NO_RESPONSE
    return find_step(call.elapsed_ms)


def find_step(time):
    """Return the index of the step that contains a time. A step includes its start and excludes its end."""
    return bisect_right(STEP_STARTS_MS, time) - 1


def build_bar(row, last_row, counts, max_count, *, place, note):
    y = place * ROW_HEIGHT_PX + (ROW_HEIGHT_PX - BAR_HEIGHT_PX) // 2
    label = row_label(row, last_row)
    segments, end = [], 0.0
    for outcome, count in counts.items():
        if count:
            width = round(100 * count / max_count, 2)
            text = f"{label}: {describe_outcomes(**{outcome: count})}"
            segments.append(Segment(outcome=outcome, text=text, x=round(end, 2), width=width))
            end += width
    return Bar(
        label=label,
        segments=segments,
        count=sum(counts.values()),
        text=describe_outcomes(**counts) or "0",
        note=note,
        y=y,
        text_y=y + BAR_HEIGHT_PX // 2,
        end=round(end, 2),
    )


def row_label(row, last_row):
    """Return a text like "20 to 50 ms" for a step, or the steps up to another one."""
    if row >= NO_RESPONSE:
        return _("no response") if row == NO_RESPONSE else _("not called")
    start = STEP_STARTS_MS[row]
    if last_row + 1 == len(STEP_STARTS_MS):
        return _("{start} s or more").format(start=start // 1000)
    end = STEP_STARTS_MS[last_row + 1]
    if start == 0:
        return _("under {end} ms").format(end=end)
    if start >= 1000:
        return _("{start} to {end} s").format(start=start // 1000, end=end // 1000)
    if end < 1000:
        return _("{start} to {end} ms").format(start=start, end=end)
    return _("{start} ms to {end} s").format(start=start, end=end // 1000)


def find_label_class(labels):
    """Return the class of a chart whose labels need more space than usual, or an empty text."""
    length = max(map(len, labels))
    if length < LONG_LABEL_LENGTH:
        return ""
    return "has-long-labels" if length < VERY_LONG_LABEL_LENGTH else "has-very-long-labels"


def describe(bars):
    parts = (f"{bar.label}: {bar.text}" + (f" ({bar.note})" if bar.note else "") for bar in bars)
    return "; ".join(parts) + "."
