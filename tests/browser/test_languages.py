"""The pages in a language of tests that is 40 % longer and written from right to left, in large text and in print."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.parts import create_report, visit
from tests.support import pseudo_locale
from tests.support.browser import sign_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(480)]

NARROW = {"width": 380, "height": 800}
PAGES = ["/reports/", "/check/", "/notifications/"]

#: Texts that are cut: their box hides what does not fit, and cannot be scrolled. A name or text of a user may be
#: shortened with an ellipsis.
FIND_CUT = """() => {
    const isHidden = (node) => {
        const style = getComputedStyle(node);
        return style.clipPath !== "none" || style.textOverflow === "ellipsis" || style.webkitLineClamp !== "none";
    };
    const cut = [];
    for (const node of document.querySelectorAll("body *")) {
        if (node.closest("svg, textarea, .notifications-result") || isHidden(node) || node.closest(".whole")) continue;
        if (!/hidden|clip/.test(getComputedStyle(node).overflowX) || !node.checkVisibility()) continue;
        if (node.tagName !== "INPUT" && node.scrollWidth > node.clientWidth + 1) cut.push(node.outerHTML.slice(0, 120));
    }
    const width = document.documentElement.clientWidth;
    for (const text of document.querySelectorAll("svg text")) {
        const box = text.getBoundingClientRect();
        const isOutside = box.left < -1 || box.right > width + 1;
        if (box.width && isOutside) cut.push(`${text.textContent}: ${box.left} to ${box.right}`);
    }
    return cut;
}"""


#: How far the first line of a title is from the picture of its row, and the room that its ellipsis has beside it.
MEASURE_TITLE = """(title) => {
    const range = document.createRange();
    range.selectNodeContents(title);
    const { right } = range.getClientRects()[0];
    const picture = title.previousElementSibling.getBoundingClientRect();
    return [picture.left - right, title.getBoundingClientRect().right - right];
}"""


NOTIFY = """
from django.contrib.auth import get_user_model
from notifications.api import notify
demo = get_user_model().objects.get(username="demo")
notify(demo, "From left to right", actor="William Wordsworth", level="error")
"""
#: Of the disc of 32 px.
MEASURE_INITIALS = """(title) => {
    const range = document.createRange();
    range.selectNodeContents(title.previousElementSibling.querySelector("span:not(.notifications-hidden)"));
    return range.getBoundingClientRect().width;
}"""


def expect_no_overflow(page):
    """Nothing makes the page wider than the window, and no text is cut."""
    widths = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert widths[0] <= widths[1], f"{page.url} is {widths[0]} px wide"
    assert page.evaluate(FIND_CUT) == []


@pytest.fixture
def pseudo_site(site, tmp_path):
    """A running site with the language of tests."""
    site.environment["TEST_LOCALE_PATH"] = str(pseudo_locale.write_catalog(tmp_path))
    site.start_web()
    return site


def make_report(page, site):
    """Create a report with calls of each outcome, wait for its end and return its URL."""
    urls = [f"{site.url}/upstream/ok", f"{site.url}/upstream/status/404", f"{site.url}/upstream/slow?s=1.2"]
    page.goto(f"{site.url}/reports/")
    page.locator("textarea").fill("\n".join([*urls, "http://169.254.169.254/"]))
    page.locator("form.paste button.main").click()
    page.wait_for_url(re.compile(r"/reports/\d+/$"))
    page.locator("a[href$='report.csv']").first.wait_for(state="attached")
    return page.url


@pytest.mark.nightly
def test_pages_from_right_to_left_in_a_narrow_window(pseudo_site, new_page):
    page = new_page(locale=pseudo_locale.CODE, viewport=NARROW, errors=False)
    page.goto(f"{pseudo_site.url}/accounts/login/")
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect_no_overflow(page)
    sign_in(page, pseudo_site.url)
    report = make_report(page, pseudo_site)
    title = (
        "A title from left to right, with considerably more words than the two lines of its row have room for"
    )
    pseudo_site.manage("notify", "demo", title, "--level", "warning")
    for url in [report, *(pseudo_site.url + path for path in PAGES)]:
        page.goto(url)
        expect_no_overflow(page)
    # The last page is the inbox.
    distance, room = page.get_by_role("link", name=title, exact=True).evaluate(MEASURE_TITLE)
    assert distance == pytest.approx(12, abs=1) and room >= 13
    page.goto(report)
    pseudo_site.python(NOTIFY)
    toast = page.locator(".notifications-toast").get_by_role("link", name="From left to right")
    assert toast.evaluate(MEASURE_TITLE)[0] == pytest.approx(12, abs=1)
    assert toast.evaluate(MEASURE_INITIALS) <= 26
    first = page.locator(".calls tbody tr").first.bounding_box()
    assert first["x"] >= 0 and first["x"] + first["width"] <= NARROW["width"]
    admin = new_page(locale=pseudo_locale.CODE, errors=False)
    sign_in(admin, pseudo_site.url, "admin")
    admin.goto(f"{pseudo_site.url}/admin/notifications_operations/overview/")
    admin.locator(".filters > summary").click()
    admin.select_option("select[name=task]", index=1)
    admin.locator(".periods button").click()
    expect(admin.locator(".distribution")).to_be_visible()
    for width in (1280, NARROW["width"]):
        admin.set_viewport_size({"width": width, "height": 800})
        # Cells are as wide as with large figures: tables are scrolled, not the page.
        too_wide = admin.evaluate(
            "document.querySelectorAll('.wide td').forEach((cell) => { cell.style.minWidth = '140px' }),"
            "[...document.querySelectorAll('html, .tiles div')].filter((node) => node.scrollWidth > node.clientWidth)"
            ".map((node) => `${node.localName}: ${node.scrollWidth} of ${node.clientWidth} px`)"
        )
        assert too_wide == [], width


@pytest.mark.nightly
def test_the_skip_link_is_at_the_side_where_the_text_begins(pseudo_site, new_page):
    page = new_page(locale=pseudo_locale.CODE, viewport=NARROW)
    page.goto(f"{pseudo_site.url}/accounts/login/")
    page.locator(".skip").focus()
    box = page.locator(".skip").bounding_box()
    assert box["x"] + box["width"] == pytest.approx(NARROW["width"] - 8, abs=1)


@pytest.mark.nightly
@pytest.mark.parametrize("language", ["en", "de", "fr"])
def test_pages_at_twice_the_size_of_text(site_server, new_page, language):
    """As with the browser's setting, which scales what is in rem, in a window of 640 px."""
    page = new_page(locale=language, viewport={"width": 640, "height": 800}, errors=False)
    sign_in(page, site_server.url)
    report = make_report(page, site_server)
    for url in [report, *(site_server.url + path for path in PAGES)]:
        page.goto(url)
        page.evaluate(
            "document.adoptedStyleSheets = [Object.assign(new CSSStyleSheet(), {})];"
            "document.adoptedStyleSheets[0].replaceSync('html { font-size: 200% }')"
        )
        expect_no_overflow(page)


def test_the_language_is_chosen_at_the_foot_of_a_page(site_server, page):
    visit(page, site_server.url, "/check/")
    page.get_by_role("button", name="Deutsch").click()
    expect(page.get_by_role("heading", name="Eine URL prüfen")).to_be_visible()
    assert page.url.endswith("/check/")
    page.get_by_label("URL", exact=True).fill(f"{site_server.url}/upstream/ok")
    page.get_by_role("button", name="URL prüfen").click()
    expect(page.get_by_text("bestanden", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Benachrichtigungen: keine ungelesen")).to_be_visible()


@pytest.mark.nightly
def test_the_text_box_counts_in_the_language_of_the_page(site_server, new_page):
    page = new_page(locale="de")
    sign_in(page, site_server.url)
    box, count = page.locator("textarea"), page.locator("#count")
    for typed, words in [
        ("https://a.example/", "1 URL."),
        ("https://a.example/\n" * 1001, "1.001 URLs. Ein Bericht nimmt höchstens 1.000 auf."),
        ("x\n" * 8, "0 URLs. Die Zeilen 1, 2, 3, 4, 5 und 3 weitere sind keine URLs."),
    ]:
        box.fill(typed)
        expect(count).to_have_text(words)


def test_a_report_is_printed_without_controls(site_server, page):
    visit(page, site_server.url)
    page.goto(create_report(page, site_server.url, [f"{site_server.url}/upstream/ok"], "Printed"))
    page.get_by_role("link", name="Download CSV").wait_for()
    page.emulate_media(media="print")
    for selector in ("header.site", "footer.site", ".heading .actions", ".bar-of-filters", ".log"):
        expect(page.locator(selector).first).to_be_hidden()
    for selector in ("h1", ".totals", ".chart svg", ".calls"):
        expect(page.locator(selector)).to_be_visible()


@pytest.mark.nightly
def test_a_report_that_is_watched_until_its_end_is_read(site_server, page, new_page):
    """And one that ends in another report's page is not."""
    visit(page, site_server.url)
    create_report(page, site_server.url, site_server.held_urls(4), "Watched")
    site_server.release()
    page.get_by_role("link", name="Download CSV").wait_for()
    expect(page.get_by_role("button", name=re.compile("none unread"))).to_be_visible()
    other = new_page()
    visit(other, site_server.url)
    site_server.release(0)
    create_report(other, site_server.url, site_server.held_urls(4), "Left")
    other.goto(f"{site_server.url}/check/")
    site_server.release()
    expect(other.get_by_role("button", name=re.compile(r"1 new, 1 unread$"))).to_be_visible()
