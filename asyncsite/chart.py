"""The chart of answer times: how many calls took how long, as bars that a template draws as SVG.

Answer times spread over three powers of ten, so the steps are 5, 10, 20, 50, … and every step gets one bar. Lengths are
percentages: the drawing follows the width of the page while the text keeps its size.
"""

from bisect import bisect_right
from dataclasses import dataclass

from asyncsite.summary import percentile

STEPS = (0, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)  # milliseconds
ROW = 32  # pixels
BAR = 20
AXIS = 28


@dataclass(frozen=True, kw_only=True)
class Bar:
    label: str
    count: int
    note: str
    y: int
    text_y: int
    width: float  # percent

    @property
    def words(self):
        return f"{self.count:,} {'call' if self.count == 1 else 'calls'}"


@dataclass(frozen=True, kw_only=True)
class Chart:
    bars: list[Bar]
    height: int
    axis_y: int
    bar_height: int
    description: str


def chart(times):
    """The Chart of answer times in milliseconds, ascending; None of nothing."""
    if not times:
        return None
    steps = [bisect_right(STEPS, time) - 1 for time in times]
    first, last = steps[0], steps[-1]
    most = max(steps.count(step) for step in range(first, last + 1))
    marks = {"median": percentile(times, 50), "95%": percentile(times, 95)}
    bars = [
        bar(step, steps.count(step), most, row=step - first, marks=marks) for step in range(first, last + 1)
    ]
    axis_y = len(bars) * ROW
    return Chart(
        bars=bars,
        height=axis_y + AXIS,
        axis_y=axis_y,
        bar_height=BAR,
        description=describe(bars),
    )


def bar(step, count, most, *, row, marks):
    y = row * ROW + (ROW - BAR) // 2
    return Bar(
        label=step_label(step),
        count=count,
        note=", ".join(word for word, time in marks.items() if bisect_right(STEPS, time) - 1 == step),
        y=y,
        text_y=y + BAR // 2,
        width=round(100 * count / most, 2),
    )


def step_label(step):
    """Like "20 to 50 ms"; a step holds its beginning and not its end."""
    start = STEPS[step]
    if step + 1 == len(STEPS):
        return f"{start // 1000} s or more"
    end = STEPS[step + 1]
    if start == 0:
        return f"under {end} ms"
    if start >= 1000:
        return f"{start // 1000} to {end // 1000} s"
    return f"{start} to {end} ms" if end < 1000 else f"{start} ms to 1 s"


def describe(bars):
    return (
        "; ".join(f"{bar.label}: {bar.words}" + (f" ({bar.note})" if bar.note else "") for bar in bars) + "."
    )
