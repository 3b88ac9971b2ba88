"""Lines over time as SVG. The template draws them; the labels of the axes are text beside the drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: Width and height of the coordinates of a drawing, which the page stretches to its width.
WIDTH, HEIGHT = 600, 160
#: The least distance of two labels of lines, in the coordinates of the drawing.
MIN_LABEL_DISTANCE = 18


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """A line: ``values`` at equal distances in time, None where nothing is known. ``name`` is a part of CSS classes."""

    name: str
    label: Any
    values: Sequence[float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of a chart: ``path`` as SVG has it, and the height in percent at which its label stands."""

    name: str
    label: Any
    path: str
    label_y: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """A drawing of lines. ``top`` and ``middle`` are the values of the upper edge and of the half height."""

    lines: list[Line]
    top: float
    middle: float


def build_chart(series: Sequence[Series]) -> Chart | None:
    """Return the chart of these lines with a scale from 0, or None without a value."""
    known = [value for line in series for value in line.values if value is not None]
    if not known:
        return None
    top = round_up(max(known))
    with_values = [line for line in series if any(value is not None for value in line.values)]
    heights = [_last_height(line.values, top) for line in with_values]
    lines = [
        Line(
            name=line.name, label=line.label, path=_path(line.values, top), label_y=round(100 * y / HEIGHT, 1)
        )
        for line, y in zip(with_values, _spread(heights), strict=True)
    ]
    return Chart(lines=lines, top=top, middle=top / 2)


def round_up(value: float) -> float:
    """Return the least of 1, 2, 5, 10, 20, 50 and so on that is not below a value; 1 for 0."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))


def _path(values: Sequence[float | None], top: float) -> str:
    """Return the path of a line, which is interrupted where a value is None."""
    step = WIDTH / max(len(values) - 1, 1)
    around = [None, *values, None]
    parts = []
    for number, (before, value, after) in enumerate(zip(around, values, around[2:], strict=False)):
        if value is not None:
            command = "M" if before is None else "L"
            # A value between two gaps is a point: round caps draw a line without a length.
            point = "h0" if before is None and after is None else ""
            parts.append(f"{command}{number * step:.1f} {_height(value, top):.1f}{point}")
    return "".join(parts)


def _height(value: float, top: float) -> float:
    return HEIGHT * (1 - value / top)


def _last_height(values: Sequence[float | None], top: float) -> float:
    return _height(next(value for value in reversed(values) if value is not None), top)


def _spread(heights: Sequence[float]) -> list[float]:
    """Return the heights of labels moved apart, inside the drawing and in their order."""
    order = sorted(range(len(heights)), key=lambda number: heights[number])
    placed = [0.0] * len(heights)
    lowest = -math.inf
    for number in order:
        placed[number] = lowest = max(heights[number], lowest + MIN_LABEL_DISTANCE)
    highest = math.inf
    for number in reversed(order):
        placed[number] = highest = min(placed[number], highest - MIN_LABEL_DISTANCE, HEIGHT)
    return placed
