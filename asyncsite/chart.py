"""The chart of response times: a bar for each step of 5, 10, 20, 50, … ms, which a template renders as SVG.

Response times span three powers of ten, hence the steps. Lengths are percentages: the chart follows the width of the
page while its text keeps its size.
"""

from bisect import bisect_right
from dataclasses import dataclass

from asyncsite.summary import percentile

STEP_STARTS_MS = (0, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
ROW_HEIGHT_PX = 32
BAR_HEIGHT_PX = 20
AXIS_HEIGHT_PX = 28


@dataclass(frozen=True, kw_only=True)
class Bar:
    label: str
    count: int
    note: str
    y: int
    text_y: int
    width: float  # percent

    @property
    def count_text(self):
        return f"{self.count:,} {'call' if self.count == 1 else 'calls'}"


@dataclass(frozen=True, kw_only=True)
class Chart:
    bars: list[Bar]
    height: int
    axis_y: int
    bar_height: int
    description: str


def build_chart(times):
    """Return the Chart of response times in ascending milliseconds, or None if there are none."""
    if not times:
        return None
    steps = [find_step(time) for time in times]
    first, last = steps[0], steps[-1]
    max_count = max(steps.count(step) for step in range(first, last + 1))
    notes = {find_step(percentile(times, 95)): ["95%"]}
    notes.setdefault(find_step(percentile(times, 50)), []).insert(0, "median")
    bars = [
        build_bar(step, steps.count(step), max_count, row=step - first, note=", ".join(notes.get(step, [])))
        for step in range(first, last + 1)
    ]
    axis_y = len(bars) * ROW_HEIGHT_PX
    return Chart(
        bars=bars,
        height=axis_y + AXIS_HEIGHT_PX,
        axis_y=axis_y,
        bar_height=BAR_HEIGHT_PX,
        description=describe(bars),
    )


def find_step(time):
    """Return the index of the step that contains a time. A step includes its start and excludes its end."""
    return bisect_right(STEP_STARTS_MS, time) - 1


def build_bar(step, count, max_count, *, row, note):
    y = row * ROW_HEIGHT_PX + (ROW_HEIGHT_PX - BAR_HEIGHT_PX) // 2
    return Bar(
        label=step_label(step),
        count=count,
        note=note,
        y=y,
        text_y=y + BAR_HEIGHT_PX // 2,
        width=round(100 * count / max_count, 2),
    )


def step_label(step):
    """Return a text like "20 to 50 ms"."""
    start = STEP_STARTS_MS[step]
    if step + 1 == len(STEP_STARTS_MS):
        return f"{start // 1000} s or more"
    end = STEP_STARTS_MS[step + 1]
    if start == 0:
        return f"under {end} ms"
    if start >= 1000:
        return f"{start // 1000} to {end // 1000} s"
    return f"{start} to {end} ms" if end < 1000 else f"{start} ms to 1 s"


def describe(bars):
    parts = (f"{bar.label}: {bar.count_text}" + (f" ({bar.note})" if bar.note else "") for bar in bars)
    return "; ".join(parts) + "."
