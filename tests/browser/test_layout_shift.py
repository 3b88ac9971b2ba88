"""Nothing moves that was not touched: while a page loads, and while its user works through the inbox."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.all_pages import create_content, find_job, open_composer, start_with_push, wait_for_page
from tests.browser.parts import create_report, open_bell, visit, wait_until_live
from tests.browser.test_touch import FIND_SMALL, IS_FREE, PHONE
from tests.support.axe import find_violations
from tests.support.browser import sign_in_over_http
from tests.support.layout_shift import MAX_SHIFT, read_shifts, record_shifts
from tests.support.text_rectangles import PHONE_WIDTHS, find_text_problems

pytestmark = pytest.mark.browser

#: Makes each word of a page a third longer, also those that its style sheet writes: a language longer than any that the
#: page is translated to. Times, numbers and addresses are as long in each language, and a chart has
#: room for its longest label.
LENGTHEN = """() => {
    const skipped = "script, style, textarea, time, code, pre, kbd, svg, .url, bdi, .username, [dir=ltr]:not(html)";
    const lengthenWord = (word) => word + word.slice(0, Math.ceil(word.length / 3)).toLowerCase();
    const lengthen = (text) => text.replace(/\\p{L}{4,}/gu, lengthenWord);
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const texts = [];
    while (walker.nextNode()) texts.push(walker.currentNode);
    for (const text of texts)
        if (text.data.trim() && !text.parentElement.closest(skipped)) text.data = lengthen(text.data);
    for (const node of document.querySelectorAll("[data-label]")) node.dataset.label = lengthen(node.dataset.label);
}"""


def lengthen_texts(page):
    """Make the texts of a page a third longer."""
    page.evaluate(LENGTHEN)


STRICTEST = "require-trusted-types-for 'script'; trusted-types 'none'"
CREATE = """
from django.contrib.auth import get_user_model
from notifications.api import notify
user = get_user_model().objects.get(username="demo")
for n in range({first}, {last} + 1):
    category = "reports" if n % 2 else ""
    notify(user, f"Number {{n}}", body="A body of one line.", url="/check/", category=category)
"""


def notify(site, first, last):
    site.python(CREATE.format(first=first, last=last))


def expect_still(page, where):
    moved, sources = read_shifts(page)
    assert moved <= MAX_SHIFT, f"{where} moved by {moved:.3f}:\n{sources}"


@pytest.mark.nightly_names("*[1280]")
@pytest.mark.parametrize("width", [1280, 380])
def test_the_inbox_does_not_move(site_server, new_page, width):
    """Open, read, done with the rows that take their place, a selection, arrivals, and the bell."""
    notify(site_server, 1, 60)
    page = new_page(viewport={"width": width, "height": 800})
    record_shifts(page)
    visit(page, site_server.url, "/notifications/")
    rows = page.locator("notifications-inbox li[data-id]")
    expect_still(page, "the inbox as it was opened")
    # The responses arrive when the click is no longer the reason of what moves.
    page.route("**/api/notifications/**", lambda route: (page.wait_for_timeout(700), route.continue_()))
    for verb, number in (("Mark as read", 59), ("Done", 58), ("Done", 57)):
        page.get_by_role("link", name=f"Number {number}", exact=True).first.hover()
        page.get_by_role("button", name=f"{verb}: Number {number}").click()
        page.wait_for_timeout(1500)
        expect_still(page, f"the inbox after “{verb}”")
    while rows.count() < 50:  # A reader who scrolls a window at a time does not see the end of the list.
        page.mouse.wheel(0, 300)
        page.wait_for_timeout(500)
    expect_still(page, "the inbox after older rows were loaded")
    notify(site_server, 61, 63)
    expect(page.locator(".notifications-news")).to_be_visible()
    page.wait_for_timeout(500)
    expect_still(page, "the inbox after three have arrived")
    for control in page.locator(".notifications-toolbar").locator("a, button").filter(visible=True).all():
        assert control.evaluate(IS_FREE), "the toolbar is not in view, or one control covers another"
    open_bell(page)
    page.wait_for_timeout(1000)
    expect_still(page, "the inbox with the bell")
    page.unroute_all(behavior="ignoreErrors")


#: The pixels between the end of an element and that of what is in it.
UNUSED = """(element) => element.getBoundingClientRect().bottom
    - Math.max(...[...element.querySelectorAll("*")].map((each) => each.getBoundingClientRect().bottom))"""


@pytest.mark.nightly
@pytest.mark.parametrize("width", [1280, 380])
def test_what_is_watched_until_its_end_does_not_move(site_server, new_page, width):
    """A report with its log open, the list, and the page of its job: the outcome takes the place of the progress."""
    site = site_server
    page = new_page(viewport={"width": width, "height": 800})
    record_shifts(page)
    visit(page, site.url)
    failing = [f"{site.url}/upstream/status/{status}" for status in (503, 404, 500)]
    report = create_report(page, site.url, [*failing, *site.held_urls(30)], "Watched")
    job, listed = page.context.new_page(), page.context.new_page()
    for other, path in (
        (job, f"/notifications/jobs/{find_job(site, 'running')}/"),
        (listed, "/reports/"),
    ):
        record_shifts(other)
        other.goto(site.url + path)
        wait_until_live(other)
    page.bring_to_front()
    wait_until_live(page)
    page.get_by_text("Log", exact=True).click()
    for count in (10, 20):
        site.release(count)
        for each in (page, job, listed):
            expect(each.get_by_text(re.compile(f"{count + 3} of 33")).first).to_be_visible()
    expect(page.get_by_text(re.compile("left$"))).to_be_visible()  # The pace is known after some seconds.
    expect(job.get_by_text(re.compile("left$"))).to_be_visible()
    expect(page.locator(".calls tbody tr")).to_have_count(3)
    output = job.locator("notifications-output pre")
    expect(output).to_contain_text("503")
    expect_still(job, "the page of the running job")
    before = output.bounding_box()
    rows = page.locator(".calls tbody th").all_inner_texts()
    delayed = []
    page.route("**/content/**", lambda route: delayed.append(route))
    with job.expect_event("load"):  # the page is loaded again
        site.release()
    # The last numbers stay until the result is there, and what did not pass stays where it is.
    expect(page.locator("notifications-job[data-state=succeeded]")).to_be_attached()
    expect(page.locator("h2.state")).to_have_text(re.compile(r"^\d+ of 33 checked$"))
    expect(page.locator(".times")).to_contain_text("Running for")
    for route in delayed:
        route.continue_()
    page.unroute("**/content/**")
    for each in (page, job, listed):
        expect(each.get_by_text(re.compile("30 of 33 passed")).first).to_be_visible()
    expect(page.locator(".calls tbody tr")).to_have_count(33)
    assert page.locator(".calls tbody th").all_inner_texts()[:3] == rows
    # The room of the line about leaving the page is filled.
    line = page.locator(".detail").bounding_box()
    assert line["height"] - page.locator(".detail .totals").bounding_box()["height"] < 4
    expect(output).to_contain_text("Done")
    assert page.url == report
    expect_still(page, "the report")
    expect_still(listed, "the list of reports")
    expect_still(job, "the page of the job that has ended")
    assert abs(output.bounding_box()["y"] - before["y"]) <= 1
    assert job.locator(".notifications-columns").evaluate(UNUSED) <= 48, "what follows is far below"
    outcome = job.locator(".notifications-band strong")
    assert (
        len(outcome.inner_text()) > 60
        and outcome.evaluate("(text) => getComputedStyle(text).fontSize") == "16px"
    )


@pytest.mark.nightly
@pytest.mark.parametrize("is_phone", [False, True], ids=["desktop", "phone"])
def test_each_page(site, new_page, is_phone):
    """It does not move while it loads, it is no wider than the window, and it is accessible.

    Its scripts keep the strictest policy for trusted types: a breach of it is an error of the page.
    On a phone, in German, each control is large enough for a finger, and no text is printed over another one or cut: as
    it is, and a third longer. tests/browser/test_texts.py has other languages and widths.
    """
    site.environment["TEST_CSP"] = STRICTEST
    start_with_push(site)
    found = []
    window = {"viewport": {"width": 1280, "height": 800}}
    if is_phone:
        window = {"color_scheme": "dark", "locale": "de", **PHONE}
    creator, page = new_page(), new_page(**window)
    width = window["viewport"]["width"]
    addresses = create_content(site, creator)
    creator.close()
    record_shifts(page)
    sign_in_over_http(page.context, site.url)
    for name, address in addresses.items():
        response = page.goto(address)
        assert response.ok and STRICTEST in response.header_value("content-security-policy"), address
        wait_for_page(page)
        page.wait_for_load_state("networkidle")
        expect_still(page, name)
        # FIND_SMALL asks for larger targets on a phone, and knows bars that float.
        problems = find_violations(page, disabled=["target-size"] if is_phone else [])
        if (shown := page.evaluate("document.documentElement.scrollWidth")) > width:
            problems.append(f"{shown} px wide")
        if is_phone:
            problems += page.evaluate(FIND_SMALL) + find_text_problems(page, PHONE_WIDTHS)
            for row in page.locator("main > .notifications-frame li .notifications-main").all():
                if (box := row.bounding_box()) and not 16 <= box["x"] < box["x"] + box["width"] <= width - 16:
                    problems.append("a row has text at an edge")
            lengthen_texts(page)
            problems += [f"longer: {each}" for each in find_text_problems(page, PHONE_WIDTHS)]
        else:
            problems += find_text_problems(page, [width])
        found += [f"{name}: {problem}" for problem in problems]
    if is_phone:  # Staff have one more link in the header, which has two lines.
        sign_in_over_http(page.context, site.url, "admin")
        page.goto(addresses["check"])
        found += [f"header of staff: {problem}" for problem in find_text_problems(page, PHONE_WIDTHS)]
        assert page.locator("header.site").bounding_box()["height"] <= 100
    assert not found, "\n".join(found)


@pytest.mark.nightly
@pytest.mark.parametrize("width", [1280, 380])
def test_the_composer_does_not_move(site_server, new_page, width):
    """While it loads, and while its preview follows what is typed."""
    page = new_page(errors=False, viewport={"width": width, "height": 800})  # the admin has no favicon
    record_shifts(page)
    open_composer(site_server, page)
    page.wait_for_timeout(600)
    expect_still(page, "the composer")
