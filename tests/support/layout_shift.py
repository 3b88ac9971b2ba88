"""What moves on a page of Chromium without having been touched: https://wicg.github.io/layout-instability/."""

#: A page may move by this much, added up from its first paint on.
MAX_SHIFT = 0.02

RECORD = """
window.layoutShifts = [];
new PerformanceObserver((list) => {
    const describe = ({ node, previousRect: from, currentRect: to }) => {
        const element = node instanceof Element ? node : node?.parentElement;
        const name = element ? `${element.localName}.${element.className} in ${element.parentElement?.className}` : "?";
        return `${name}: y ${from.y} x ${from.x} (${from.width} x ${from.height}) to ` +
            `y ${to.y} x ${to.x} (${to.width} x ${to.height})`;
    };
    for (const { value, hadRecentInput, sources } of list.getEntries())
        if (!hadRecentInput) window.layoutShifts.push({ value, sources: sources.map(describe) });
}).observe({ type: "layout-shift", buffered: true });
"""


def record_shifts(page):
    """Record what moves in this page, and in those that it opens later, from their first paint on.

    What moves within 0.5 s of a click or a key does not count: it is the response to it.
    """
    page.add_init_script(RECORD)


def read_shifts(page):
    """Return how much has moved since the page was opened, and what did."""
    # The entries of a frame are delivered after it.
    page.evaluate(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"
    )
    shifts = page.evaluate("window.layoutShifts")
    return sum(shift["value"] for shift in shifts), "\n".join(
        f"{shift['value']:.4f} {source}" for shift in shifts for source in shift["sources"]
    )
