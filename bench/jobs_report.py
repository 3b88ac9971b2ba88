"""Figures as a table in Markdown and as a chart."""

from __future__ import annotations

import statistics
from html import escape

#: Measures in the chart, and whether more is better.
CHARTED = {
    "jobs/s, 2 processes": True,
    "jobs/s beside 4 writers": True,
    "enqueued one by one, /s": True,
    "enqueued in bulk, /s": True,
    "pickup p50, ms": False,
}
WIDTH, LEFT, BAR, GAP = 760, 225, 18, 6


def report(figures: dict[str, dict[str, list[float]]]) -> tuple[str, str]:
    """Return the table and the chart (SVG) of the medians."""
    medians = {
        measure: {queue: statistics.median(values) for queue, values in of.items()}
        for measure, of in figures.items()
    }
    return table(figures, medians), draw_chart(medians)


def table(figures: dict[str, dict[str, list[float]]], medians: dict[str, dict[str, float]]) -> str:
    names = list(dict.fromkeys(queue for of in medians.values() for queue in of))
    lines = ["| | " + " | ".join(names) + " |", "|---" + "|---:" * len(names) + "|"]
    for measure, of in medians.items():
        cells = []
        for name in names:
            values = figures[measure].get(name, [])
            worst = min(values, default=0) if is_rate(measure) else max(values, default=0)
            spread = f" (worst {format_value(worst)})" if len(values) > 1 else ""
            cells.append(format_value(of[name]) + spread if name in of else "")
        lines.append(f"| {measure} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw_chart(medians: dict[str, dict[str, float]]) -> str:
    """Draw a group of bars for each measure, each with its own scale, and the figure at the end of the bar."""
    parts, y = [], 0
    for measure, more in CHARTED.items():
        of = medians.get(measure)
        if not of:
            continue
        y += 34
        better = "more is better" if more else "less is better"
        parts.append(
            f'<text class="head" x="0" y="{y}">{escape(measure)} <tspan class="muted">({better})</tspan></text>'
        )
        y += 12
        for name, value in of.items():
            length = (WIDTH - LEFT - 80) * value / max(of.values())
            mine = ' class="app"' if name.startswith("this app") else ""
            middle = y + BAR / 2
            parts += [
                f'<text x="{LEFT - 10}" y="{middle}" text-anchor="end" dy="0.35em">{escape(name)}</text>',
                f'<rect{mine} x="{LEFT}" y="{y}" width="{max(length, 1):.1f}" height="{BAR}"/>',
                f'<text x="{LEFT + max(length, 1) + 8:.1f}" y="{middle}" dy="0.35em">{format_value(value)}</text>',
            ]
            y += BAR + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-12 0 {WIDTH + 12} {y + 10}" width="{WIDTH}" role="img">'
        "<title>Jobs beside other queues</title><style>"
        "text { font: 14px system-ui, sans-serif; fill: #1f2328; } .head { font-weight: 600; }"
        ".muted { fill: #59636e; font-weight: 400; } rect { fill: #afb8c1; } rect.app { fill: #0969da; }"
        "@media (prefers-color-scheme: dark) { text { fill: #f0f6fc; } .muted { fill: #9198a1; }"
        " rect { fill: #59636e; } rect.app { fill: #4493f8; } }"
        f"</style>{''.join(parts)}</svg>\n"
    )


def is_rate(measure: str) -> bool:
    return measure.startswith("jobs/s") or measure.endswith("/s")


def format_value(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"
