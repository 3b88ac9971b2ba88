"""The figures of ``bench.outbound`` as a table in Markdown and as a chart."""

from __future__ import annotations

import statistics

Figures = dict[tuple[str, int], list[dict[str, float]]]

BASE = "bare aiohttp"
WIDTH, LEFT, BAR, GAP = 760, 130, 18, 6


def table(figures: Figures) -> str:
    """Return requests per second and per CPU second, and their ratios to bare aiohttp and httpx."""
    lines = [
        "| concurrent calls | client | requests/s | requests/CPU s (min to max) | of bare aiohttp | times httpx |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for at_once in sizes(figures):
        for name in names(figures):
            values = [one["a CPU second"] for one in figures[name, at_once]]
            lines.append(
                f"| {at_once} | {name} | {median(figures, name, at_once, 'a second'):,.0f} "
                f"| {statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f}) "
                f"| {ratio(figures, name, BASE, at_once):.0%} | {ratio(figures, name, 'httpx', at_once):.1f} |"
            )
    return "\n".join(lines) + "\n"


def ratio(figures: Figures, name: str, other: str, at_once: int) -> float:
    """Return the median of the ratios of each round, in which both had about the same load on the machine."""
    pairs = zip(figures[name, at_once], figures[other, at_once], strict=True)
    return statistics.median(one["a CPU second"] / two["a CPU second"] for one, two in pairs)


def median(figures: Figures, name: str, at_once: int, key: str) -> float:
    return statistics.median(one[key] for one in figures[name, at_once])


def names(figures: Figures) -> list[str]:
    return list(dict.fromkeys(name for name, _ in figures))


def sizes(figures: Figures) -> list[int]:
    return list(dict.fromkeys(at_once for _, at_once in figures))


def draw_chart(figures: Figures) -> str:
    """Draw a group of bars for each number of concurrent calls, all with one scale."""
    most = max(median(figures, name, at_once, "a CPU second") for name, at_once in figures)
    parts, y = [], 0
    for at_once in sizes(figures):
        y += 30
        parts.append(
            f'<text class="head" x="0" y="{y}">{at_once} concurrent calls: requests per CPU second</text>'
        )
        y += 12
        for name in names(figures):
            value = median(figures, name, at_once, "a CPU second")
            length, middle = max((WIDTH - LEFT - 80) * value / most, 1), y + BAR / 2
            mine = ' class="app"' if name == "this app" else ""
            parts += [
                f'<text x="{LEFT - 10}" y="{middle}" text-anchor="end" dy="0.35em">{name}</text>',
                f'<rect{mine} x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}"/>',
                f'<text x="{LEFT + length + 8:.1f}" y="{middle}" dy="0.35em">{value:,.0f}</text>',
            ]
            y += BAR + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 10}" width="{WIDTH}" role="img">'
        "<title>Outbound calls beside other clients</title><style>"
        "text { font: 14px system-ui, sans-serif; fill: #1f2328; } .head { font-weight: 600; }"
        " rect { fill: #afb8c1; } rect.app { fill: #0969da; }"
        "@media (prefers-color-scheme: dark) { text { fill: #f0f6fc; } rect { fill: #59636e; }"
        " rect.app { fill: #4493f8; } }"
        f"</style>{''.join(parts)}</svg>\n"
    )
