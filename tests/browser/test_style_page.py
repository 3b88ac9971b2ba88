"""The page /style/ in Chromium: light, dark, narrow, from right to left, and at twice the size of text.

SCREENSHOTS=folder keeps a picture of each, to be looked at.
"""

import os
from pathlib import Path

import pytest

from tests.browser.parts import open_bell, visit
from tests.support import pseudo_locale
from tests.support.axe import find_violations

pytestmark = [pytest.mark.browser, pytest.mark.timeout(480)]

WINDOWS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "narrow": {"viewport": {"width": 380, "height": 800}},
    "rtl": {"locale": pseudo_locale.CODE},
    # The breakpoints of the style sheet follow the browser's setting, which a test cannot change: a window of 640 px.
    "large": {"viewport": {"width": 640, "height": 800}},
}

#: Elements that reach over an edge of the page, by which a user would have to scroll.
FIND_WIDE = """() => {
    const width = document.documentElement.clientWidth;
    const hidden = ".skip, .notifications-hidden, details:not([open]) > :not(summary)";
    const isHidden = (node) => node.closest(hidden) || node.tagName === "TSPAN";
    const reaches = ({ left, right }) => right > width + 1 || left < -1;
    const isScrolled = (node) =>
        node && (/auto|scroll/.test(getComputedStyle(node).overflowX) || isScrolled(node.parentElement));
    const isClipped = ({ parentElement: parent }) => parent.closest("thead, .chart, .whole") || isScrolled(parent);
    return [...document.querySelectorAll("body *")]
        .filter((node) => !isHidden(node) && !isClipped(node) && reaches(node.getBoundingClientRect()))
        .map((node) => node.outerHTML.slice(0, 120));
}"""

#: The least contrast of the initials and icons on discs, in rows as they are and under the cursor. They are hidden from
#: screen readers, so that axe does not measure them.
MEASURE_DISCS = """() => {
    const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const paint = (...colors) => {
        for (const color of colors) {
            context.fillStyle = color;
            context.fillRect(0, 0, 1, 1);
        }
        return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const luminance = (color) => {
        const [red, green, blue] = color.map((value) => value / 255).map((value) =>
            value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    let least = 21;
    for (const disc of document.querySelectorAll(".notifications-item .notifications-disc")) {
        const row = disc.closest(".notifications-item");
        for (const isCurrent of [false, true]) {
            row.toggleAttribute("aria-current", isCurrent);
            const behind = [row, disc].map((node) => getComputedStyle(node).backgroundColor);
            const text = getComputedStyle(disc.firstElementChild).color;
            const [dark, light] = [paint(...behind), paint(text)].map(luminance).sort((a, b) => a - b);
            least = Math.min(least, (light + 0.05) / (dark + 0.05));
        }
    }
    return least;
}"""

#: How far the middle of a button is, at most, from that of the title beside it, or from that of its first line.
MEASURE_BUTTONS = """() => Math.max(
    ...[...document.querySelectorAll(".notifications-toast, .notifications-panel li")].map((row) => {
        const button = row.querySelector(".notifications-close, .notifications-verb:not(.notifications-if-unread)");
        const title = row.querySelector(".notifications-title");
        const [{ top, bottom }, box] = [button, title].map((node) => node.getBoundingClientRect());
        const heights = [box.height, parseFloat(getComputedStyle(title).lineHeight)];
        return Math.min(...heights.map((height) => Math.abs((top + bottom) / 2 - box.top - height / 2)));
    }),
)"""

#: The tags, classes and levels below an element, without what only screen readers get.
DESCRIBE = """(root) => {
    const describe = (node) => {
        const children = [...node.children].filter((child) => !child.matches(".notifications-hidden, [hidden]"));
        return [node.tagName, node.className, node.dataset.level ?? "", children.map(describe)];
    };
    return describe(root);
}"""

#: Describe the next toast when it is shown, before it disappears. The event is dispatched just before.
RECORD_TOAST = f"""() => {{
    window.nextToast = new Promise((resolve) => addEventListener("notifications:toast", () => setTimeout(
        () => resolve(({DESCRIBE})(document.querySelector("notifications-toasts .notifications-toast"))),
    )));
}}"""


@pytest.fixture(scope="module")
def style_site(sites, tmp_path_factory):
    """A running site with the language of tests, whose pages are read only."""
    site = sites.make()
    site.environment["TEST_LOCALE_PATH"] = str(pseudo_locale.write_catalog(tmp_path_factory.mktemp("locale")))
    site.start_web()
    yield site
    site.close()


@pytest.mark.nightly
@pytest.mark.parametrize("window", WINDOWS)
def test_the_page_fits_and_is_accessible(style_site, new_page, window):
    page = new_page(**WINDOWS[window])
    page.goto(f"{style_site.url}/style/")
    page.evaluate("document.fonts.ready")
    if window == "large":
        page.evaluate(
            "document.adoptedStyleSheets = [new CSSStyleSheet()];"
            "document.adoptedStyleSheets[0].replaceSync('html { font-size: 200% }')"
        )
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"style-{window}.png", full_page=True)
    width, available = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert width <= available
    assert page.evaluate(FIND_WIDE) == []
    assert find_violations(page) == []
    assert page.evaluate(MEASURE_DISCS) >= 4.5
    assert page.evaluate(MEASURE_BUTTONS) <= 1


def test_its_bell_and_toasts_are_built_as_the_script_builds_them(site_server, page):
    """The script creates them, so the page has copies of their markup."""
    visit(page, site_server.url, "/check/")
    page.evaluate(RECORD_TOAST)
    site_server.python(
        "from django.contrib.auth import get_user_model\n"
        "from notifications.api import notify\n"
        "actions = [{'label': 'Approve', 'url': '/check/'}, {'label': 'View request', 'url': '/check/'}]\n"
        "notify(get_user_model().objects.get(username='demo'), 'Ada requests access', actions=actions)"
    )
    live_toast = page.evaluate("nextToast")
    panel = open_bell(page)
    panel.get_by_role("link", name="Approve").wait_for()
    live_row = panel.locator(".notifications-item").first.evaluate(DESCRIBE)
    live_parts = panel.evaluate(
        "(panel) => [...panel.children].map((node) => [node.tagName, node.className])"
    )
    texts = (
        "(panel) => [...panel.querySelectorAll('.notifications-tab, .notifications-foot')]"
        ".map((node) => node.textContent)"
    )
    live_texts = panel.evaluate(texts)
    page.goto(f"{site_server.url}/style/")
    assert page.locator(".notifications-toast", has_text="Ada").evaluate(DESCRIBE) == live_toast
    sample = page.locator(".notifications-panel").first
    assert sample.locator(".notifications-item", has_text="Ada").evaluate(DESCRIBE) == live_row
    assert sample.evaluate(texts) == live_texts
    sample_parts = sample.evaluate(
        "(panel) => [...panel.children].map((node) => [node.tagName, node.className])"
    )
    hidden_parts = [
        ["P", "notifications-note"],
        ["BUTTON", "notifications-quiet"],
    ]  # of an empty list, after an error
    assert [part for part in live_parts if part not in hidden_parts] == sample_parts
