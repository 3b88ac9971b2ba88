"""Texts of a page that are printed over each other or cut, found by the rectangles of their lines, not of their boxes.

A box may have its place and still be smaller than its text: a flex item with `min-width: 44px` shrinks to 44 px, and
its text is printed over the next one.
"""

#: Widths of a phone at which each page is looked at before a merge; at night also at the others.
PHONE_WIDTHS = (320, 380)
WIDTHS = (320, 360, 380, 414, 768)

#: Texts that overlap, and texts that are cut without an ellipsis: by the window, by a box that hides what does not fit,
#: by the box of a select or, as a placeholder, by that of an input. What can be scrolled to is not cut. A bar, panel or
#: dialog that floats covers what is below it, and a text that is longer than its box fades before what has a soft edge.
FIND_PROBLEMS = """() => {
    const tolerance = 1.5; // Glyphs are drawn within rectangles that are higher than they are.
    const styles = new Map();
    const styleOf = (node) => styles.get(node) ?? styles.set(node, getComputedStyle(node)).get(node);
    const isShown = (node) => node.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    const isShortened = (node) => styleOf(node).textOverflow === "ellipsis" || styleOf(node).webkitLineClamp !== "none";
    const describe = (text) => `“${text.trim().replace(/\\s+/g, " ").slice(0, 50)}”`;
    const found = [];

    /** Return the visible part of a rectangle, and whether a box cuts it that cannot be scrolled. */
    const clip = (parent, { left, right, top, bottom }) => {
        let layer = null, isCut = false, hasSoftEdge = false;
        for (let node = parent; node && node !== document.documentElement; node = node.parentElement) {
            const style = styleOf(node);
            hasSoftEdge ||= style.clipPath !== "none" && style.boxShadow !== "none";
            if (style.clipPath !== "none" && !hasSoftEdge) return null;
            if (style.overflowX !== "visible" && style.display !== "inline") {
                const box = node.getBoundingClientRect();
                const isOut = left < box.left - tolerance || right > box.right + tolerance
                    || top < box.top - tolerance * 2 || bottom > box.bottom + tolerance * 2;
                if (isOut) {
                    isCut ||= !/auto|scroll/.test(style.overflowX) && !isShortened(node);
                    [left, right] = [Math.max(left, box.left), Math.min(right, box.right)];
                    [top, bottom] = [Math.max(top, box.top), Math.min(bottom, box.bottom)];
                }
            }
            if (/fixed|sticky/.test(style.position) || node.matches(":popover-open, dialog")) { layer = node; break; }
        }
        const width = document.documentElement.clientWidth;
        if (left < -tolerance || right > width + tolerance) isCut = true;
        return { left, right, top, bottom, layer, isCut, hasSoftEdge, isEmpty: right - left < 1 || bottom - top < 1 };
    };

    const fadesBefore = ({ text: { parentElement: box } }, { hasSoftEdge }) =>
        hasSoftEdge && box.scrollHeight > box.clientHeight + tolerance;

    const lines = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const { currentNode: text } = walker;
        const parent = text.parentElement;
        if (!text.data.trim() || parent.closest("textarea, select, .skip") || !isShown(parent)) continue;
        const range = document.createRange();
        range.selectNodeContents(text);
        for (const rectangle of range.getClientRects()) {
            if (rectangle.width < 1 || rectangle.height < 1) continue;
            const line = clip(parent, rectangle);
            const [left, right] = [rectangle.left, rectangle.right].map(Math.round);
            if (line?.isCut) found.push(`${describe(text.data)} is cut: ${left} to ${right}`);
            if (line && !line.isEmpty) lines.push({ ...line, text });
        }
    }
    lines.sort((a, b) => a.top - b.top);
    const pairs = new Set();
    for (const [index, first] of lines.entries())
        for (let at = index + 1; at < lines.length && lines[at].top < first.bottom; at++) {
            const second = lines[at];
            if (first.text === second.text || first.layer !== second.layer) continue;
            if (fadesBefore(first, second) || fadesBefore(second, first)) continue;
            const x = Math.min(first.right, second.right) - Math.max(first.left, second.left);
            const y = Math.min(first.bottom, second.bottom) - second.top;
            // Lines that follow one another closely overlap by the space above and below their letters.
            const least = 0.4 * Math.min(first.bottom - first.top, second.bottom - second.top);
            const [over, under] = [first, second].map(({ text }) => describe(text.data));
            if (x > tolerance && y > least)
                pairs.add(`${over} over ${under} by ${Math.round(x)} x ${Math.round(y)} px`);
        }
    found.push(...pairs);

    const context = document.createElement("canvas").getContext("2d");
    for (const input of document.querySelectorAll("input[placeholder]")) {
        if (!isShown(input) || input.value) continue;
        const style = styleOf(input);
        context.font = style.font;
        const room = input.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
        if (context.measureText(input.placeholder).width > room + tolerance)
            found.push(`${describe(input.placeholder)} is cut in its field`);
    }
    for (const select of document.querySelectorAll("select")) {
        if (!isShown(select) || styleOf(select).textOverflow === "ellipsis" && select.selectedIndex) continue;
        const copy = select.cloneNode();
        copy.append(select.selectedOptions[0]?.cloneNode(true) ?? "");
        copy.style.cssText = "position: absolute; width: max-content; min-width: 0; max-width: none";
        select.after(copy);
        const [width, least] = [select, copy].map((node) => node.offsetWidth);
        if (least > width + tolerance)
            found.push(`${describe(copy.textContent)} is cut in its list: ${width} of ${least} px`);
        copy.remove();
    }
    return found;
}"""


def find_text_problems(page, widths):
    """Return what is printed over other texts or cut in a page, at each of these widths. It keeps the last width."""
    height = page.viewport_size["height"]
    found = []
    for width in widths:
        page.set_viewport_size({"width": width, "height": height})
        found += [f"{width} px: {problem}" for problem in page.evaluate(FIND_PROBLEMS)]
    return found
