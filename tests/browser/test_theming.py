"""A project changes colors, corners, density and fonts of all parts by eleven custom properties."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.all_pages import find_job
from tests.browser.parts import create_report, find_toasts, open_bell, visit, wait_until_live

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

TOKENS = Path(__file__).parents[2] / "notifications/static/notifications/tokens.css"
NOTIFY = """
from django.contrib.auth import get_user_model
from notifications.api import notify
user = get_user_model().objects.get(username="demo")
actions = [{{"label": "Approve", "url": "/check/"}}]
notify(user, "Access", body="Ada asks.", level="{level}", url="/check/", actions=actions)
"""

THEME = {
    "bell": "rgb(21, 22, 23)",
    "accent": "rgb(1, 2, 3)",
    "on-accent": "rgb(4, 5, 6)",
    "surface": "rgb(240, 230, 220)",
    "text": "rgb(10, 20, 30)",
    "ok": "rgb(7, 8, 9)",
    "warn": "rgb(11, 12, 13)",
    "bad": "rgb(14, 15, 16)",
    "radius": "15px",
    "density": "0.5",
    "font": "Georgia",
}

#: By part: the property that is set, a selector, and the computed style that follows from it.
BELL = [
    ("bell", ".notifications-icon", "color", "rgb(21, 22, 23)"),
    ("surface", ".notifications-panel", "backgroundColor", "rgb(240, 230, 220)"),
    ("text", ".notifications-panel", "color", "rgb(10, 20, 30)"),
    ("radius", ".notifications-panel", "borderRadius", "20px"),
    ("font", ".notifications-panel", "fontFamily", "Georgia"),
    ("density", ".notifications-panel .notifications-item", "paddingTop", "3.5px"),
    ("accent", ".notifications-foot", "color", "rgb(1, 2, 3)"),
    ("on-accent", ".notifications-actions > :first-child", "color", "rgb(4, 5, 6)"),
    ("ok", "[data-level=success] .notifications-disc", "color", "rgb(7, 8, 9)"),
    ("warn", "[data-level=warning] .notifications-disc", "color", "rgb(11, 12, 13)"),
    ("bad", "[data-level=error] .notifications-disc", "color", "rgb(14, 15, 16)"),
]
ERROR, MAIN = ".notifications-toast[data-level=error]", ".notifications-actions > :first-child"
TOAST = [
    ("surface", ERROR, "backgroundColor", "rgb(240, 230, 220)"),
    ("text", f"{ERROR} .notifications-title", "color", "rgb(10, 20, 30)"),
    ("radius", ERROR, "borderRadius", "20px"),
    ("font", ERROR, "fontFamily", "Georgia"),
    ("density", ERROR, "paddingTop", "5px"),
    (
        "accent",
        f"{ERROR} {MAIN}",
        "backgroundColor",
        "rgb(1, 2, 3)",
    ),
    (
        "on-accent",
        f"{ERROR} {MAIN}",
        "color",
        "rgb(4, 5, 6)",
    ),
    ("bad", f"{ERROR} .notifications-disc", "color", "rgb(14, 15, 16)"),
]
INBOX = [
    (
        "surface",
        ".notifications-page .notifications-item:not([aria-current])",
        "backgroundColor",
        "rgb(240, 230, 220)",
    ),
    ("text", ".notifications-page .notifications-title", "color", "rgb(10, 20, 30)"),
    ("radius", ".notifications-filters input[type=search]", "borderRadius", "15px"),
    ("font", ".notifications-page .notifications-title", "fontFamily", "Georgia"),
    ("density", ".notifications-page .notifications-item", "paddingTop", "5px"),
    ("accent", ".notifications-heading a", "color", "rgb(1, 2, 3)"),
    ("on-accent", f".notifications-item:not([aria-current]) {MAIN}", "color", "rgb(4, 5, 6)"),
    ("ok", "[data-level=success] .notifications-disc", "color", "rgb(7, 8, 9)"),
    ("warn", "[data-level=warning] .notifications-disc", "color", "rgb(11, 12, 13)"),
    ("bad", "[data-level=error] .notifications-disc", "color", "rgb(14, 15, 16)"),
]
JOB = [
    ("text", ".notifications-page", "color", "rgb(10, 20, 30)"),
    ("font", ".notifications-page h1", "fontFamily", "Georgia"),
    ("accent", ".notifications-page p > a", "color", "rgb(1, 2, 3)"),
    ("ok", ".notifications-state strong", "color", "rgb(7, 8, 9)"),
    ("density", ".notifications-facts", "rowGap", "2px"),
]
CANCELLED = [
    ("radius", ".notifications-plainbutton", "borderRadius", "15px"),
    ("surface", ".notifications-plainbutton", "backgroundColor", "rgb(240, 230, 220)"),
]

READ = "([selector, style]) => getComputedStyle(document.querySelector(selector))[style]"


def expect_theme(page, part, expected):
    """Expect the styles with the properties, and others without them."""
    selectors = [[selector, style] for _name, selector, style, _value in expected]
    before = [page.evaluate(READ, selector) for selector in selectors]
    page.evaluate(
        "(theme) => Object.entries(theme).forEach(([name, value]) =>"
        " document.documentElement.style.setProperty(`--notifications-${name}`, value))",
        THEME,
    )
    found = [page.evaluate(READ, selector) for selector in selectors]
    page.evaluate("document.documentElement.removeAttribute('style')")
    for (name, selector, style, value), old, new in zip(expected, before, found, strict=True):
        assert new == value != old, f"{part}: --notifications-{name} at {selector}, {style}: {old}, {new}"


def test_they_are_those_of_the_file():
    assert set(re.findall(r"var\(--notifications-([\w-]+)", TOKENS.read_text())) == set(THEME)
    used = {name for part in (BELL, TOAST, INBOX, JOB, CANCELLED) for name, *_rest in part}
    assert used == set(THEME)


@pytest.mark.nightly
def test_eleven_properties_change_every_part(site_server, page):
    visit(page, site_server.url)
    create_report(page, site_server.url, [f"{site_server.url}/upstream/ok"], "Done")
    job = find_job(site_server, "succeeded")
    page.goto(f"{site_server.url}/check/")
    wait_until_live(page)
    site_server.python(NOTIFY.format(level="error"))
    expect(find_toasts(page).filter(has_text="Access").first).to_be_visible()
    find_toasts(page).filter(has_text="Access").first.hover()  # It stays.
    page.wait_for_timeout(200)  # until it has come in
    expect_theme(page, "toast", TOAST)
    for level in ("success", "warning"):
        site_server.python(NOTIFY.format(level=level))
    open_bell(page)
    expect(page.locator(".notifications-panel [data-level=warning]")).to_be_visible()
    expect_theme(page, "bell", BELL)
    page.goto(f"{site_server.url}/notifications/")
    wait_until_live(page)
    page.mouse.move(0, 0)
    expect_theme(page, "inbox", INBOX)
    page.goto(f"{site_server.url}/notifications/jobs/{job}/")
    expect_theme(page, "job page", JOB)
    page.goto(f"{site_server.url}/notifications/")
    row = page.locator("notifications-inbox li", has_text="Access").first
    page.goto(f"{site_server.url}/notifications/{row.get_attribute('data-id')}/")
    expect_theme(page, "page of a notification", CANCELLED)


def test_more_contrast(site_server, page):
    """Secondary text is as the text; a page sets it, or the system of the reader."""
    site_server.python(NOTIFY.format(level="info"))
    visit(page, site_server.url, "/notifications/")
    colors = (
        "() => ['time', 'title'].map((part) =>"
        " getComputedStyle(document.querySelector(`.notifications-list .notifications-${part}`)).color)"
    )
    secondary, text = page.evaluate(colors)
    assert secondary != text
    page.emulate_media(contrast="more")
    assert page.evaluate(colors) == [text, text]
    page.emulate_media(contrast="no-preference")
    page.evaluate("document.documentElement.dataset.contrast = 'more'")
    assert page.evaluate(colors) == [text, text]


PLAIN = """<!doctype html><html class="notifications-plain"><style>{style}</style>
<body><header class="notifications-bar"><a href="/">Back to the site</a><i>bell</i></header>
<main><div class="{frame}"><h1>Preferences</h1></div></main>"""


@pytest.mark.parametrize("frame", ["", "notifications-frame"])
def test_the_bar_stands_above_the_page_without_a_layout_of_the_project(page, frame):
    """Both have the same edges in each width."""
    style = "".join(
        TOKENS.with_name(name).read_text() for name in ("tokens.css", "notifications.css", "pages.css")
    )
    for width in (360, 768, 1000, 1100, 1200, 1600):
        page.set_viewport_size({"width": width, "height": 600})
        page.set_content(PLAIN.format(style=style, frame=frame))
        start, end = page.evaluate(
            """() => [".notifications-bar", "main"].map((selector) => {
                const part = document.querySelector(selector), box = part.getBoundingClientRect();
                const { paddingLeft, paddingRight } = getComputedStyle(part);
                return [box.left + parseFloat(paddingLeft), box.right - parseFloat(paddingRight)];
            })"""
        )
        assert start == end, width
