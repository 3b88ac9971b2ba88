"""The figures of ``bench.push`` as a table and as a chart."""

from __future__ import annotations

import math
import statistics
from typing import Any

COLUMNS = (
    "CPU us",
    "p50 ms",
    "p99 ms",
    "delivered",
    "KB a socket",
    "connections/s",
    "queries each",
    "session and user",
)
#: The ratios in the table: stock's CPU to this app's, and this app's connections to stock's.
RATIOS = (("CPU us", "stock", "app"), ("connections/s", "app", "stock"))
INK, QUIET, GRID = "#1f2430", "#667085", "#e4e7ec"
LABELS = {"app": "this app", "stock": "stock"}
COLORS = {"app": "#0f6fde", "stock": "#c2410c"}
DASHES = {"memory": "", "redis": "6 4"}
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, GAP = 920, 400, 64, 64, 56, 190


class Figures:
    """The figures of all rounds; ``text()`` returns the table of medians."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []
        self.setups: dict[str, dict] = {}

    def add(self, server: str, layer: str, way: str, setup: dict, found: dict[str, dict[str, float]]) -> None:
        setup.pop("queries")
        self.setups.setdefault(f"{server}, {layer}, {LABELS[way]}", setup)
        for what, figures in found.items():
            self.all.append({"server": server, "layer": layer, "way": way, "what": what, **figures})

    def median(self, server: str, layer: str, way: str, what: str, column: str) -> float | None:
        selected = {"server": server, "layer": layer, "way": way, "what": what}
        values = [row[column] for row in self.all if column in row and selected.items() <= row.items()]
        return statistics.median(values) if values else None

    def names(self, column: str) -> list[str]:
        return list(dict.fromkeys(row[column] for row in self.all))

    def text(self) -> str:
        rows = [["server", "layer", "what", "", *COLUMNS, "times CPU", "times as fast"]]
        for server in self.names("server"):
            for layer in self.names("layer"):
                for what in self.names("what"):
                    rows += self._pair(server, layer, what)
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
        lines = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
            for row in rows
        ]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join([*self._setup(), "", *lines])

    def _pair(self, server: str, layer: str, what: str) -> list[list[str]]:
        found = []
        for way in ("app", "stock"):
            cells = [self.median(server, layer, way, what, column) for column in COLUMNS]
            if any(cell is not None for cell in cells):
                ratios = (
                    [self._ratio(server, layer, what, *named) for named in RATIOS]
                    if way == "app"
                    else [""] * 2
                )
                found.append([server, layer, what, LABELS[way], *map(_short, cells), *ratios])
        return found

    def _ratio(self, server: str, layer: str, what: str, column: str, above: str, below: str) -> str:
        one, other = (self.median(server, layer, way, what, column) for way in (above, below))
        return f"{one / other:.1f}" if one and other else ""

    def _setup(self) -> list[str]:
        return [
            f"{name}: " + "; ".join(f"{key} {value}" for key, value in setup.items())
            for name, setup in self.setups.items()
        ]


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def plot(figures: Figures) -> str:
    """Return an SVG: CPU per message by sockets of one user, a panel for each server, both axes logarithmic."""
    servers = figures.names("server")
    sizes = sorted(int(what.split()[1]) for what in figures.names("what") if what.startswith("crowd "))
    lines = {}
    for server in servers:
        for layer in figures.names("layer"):
            for way in COLORS:
                values = [figures.median(server, layer, way, f"crowd {size}", "CPU us") for size in sizes]
                points = [(size, value) for size, value in zip(sizes, values, strict=True) if value]
                if points:
                    lines[server, layer, way] = points
    everything = [value for points in lines.values() for _, value in points]
    low, high = 10 ** math.floor(math.log10(min(everything))), 10 ** math.ceil(math.log10(max(everything)))
    panel = (WIDTH - LEFT - GAP * len(servers) + 30) / len(servers)

    def x(at: int, size: int) -> float:
        part = math.log(size / sizes[0]) / math.log(sizes[-1] / sizes[0]) if len(sizes) > 1 else 0.5
        return LEFT + at * (panel + GAP) + part * panel

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - math.log(value / low) / math.log(high / low))

    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            'font-family="system-ui, sans-serif" font-size="13">'
        ),
        "<title>CPU per delivered message by sockets of one user</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(16, 24, "Server CPU per delivered message (µs), by sockets of one user", INK, weight=600),
    ]
    for at, server in enumerate(servers):
        out.append(_text(x(at, sizes[0]), TOP - 14, server, INK, weight=600))
        tick = low
        while tick <= high:
            out.append(
                f'<line x1="{x(at, sizes[0]):.1f}" x2="{x(at, sizes[-1]):.1f}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" '
                f'stroke="{GRID}"/>'
            )
            out.append(_text(x(at, sizes[0]) - 10, y(tick) + 4, f"{tick:,}", QUIET, "end"))
            tick *= 10
        out += [_text(x(at, size), HEIGHT - BOTTOM + 22, f"{size:,}", QUIET, "middle") for size in sizes]
        ends = sorted((y(points[-1][1]), key) for key, points in lines.items() if key[0] == server)
        level = 0.0
        for end, (_, layer, way) in ends:
            points = lines[server, layer, way]
            path = " ".join(f"{x(at, size):.1f},{y(value):.1f}" for size, value in points)
            dash = f' stroke-dasharray="{DASHES[layer]}"' if DASHES[layer] else ""
            out.append(
                f'<polyline points="{path}" fill="none" stroke="{COLORS[way]}" stroke-width="2"{dash}/>'
            )
            out += [
                f'<circle cx="{x(at, size):.1f}" cy="{y(value):.1f}" r="3" fill="{COLORS[way]}"/>'
                for size, value in points
            ]
            level = max(end, level + 17)  # So that labels do not overlap.
            label = f"{LABELS[way]}, {layer}: {points[-1][1]:,.0f}"
            out.append(_text(x(at, sizes[-1]) + 10, level + 4, label, COLORS[way]))
    return "\n".join([*out, "</svg>\n"])


def _text(x: float, y: float, text: str, fill: str, anchor: str = "start", weight: int = 400) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" text-anchor="{anchor}" font-weight="{weight}">{text}</text>'
