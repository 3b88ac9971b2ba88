"""Toasts: at most three and a count, once per browser, announced, and without taking the focus."""

from itertools import pairwise

import pytest
from playwright.sync_api import expect

from tests.browser.parts import (
    expect_unread,
    find_toasts,
    open_bell,
    read_toast_count,
    start_counting_toasts,
    visit,
    wait_until_live,
)
from tests.browser.test_touch import FIND_SMALL

pytestmark = pytest.mark.browser

NOTIFY = """
from django.contrib.auth import get_user_model
from notifications.api import notify
user = get_user_model().objects.get(username="demo")
"""


def notify(site, *lines):
    site.python(NOTIFY + "\n".join(lines))


@pytest.mark.nightly
def test_three_toasts_the_worst_first_and_one_that_counts_the_rest(site_server, page):
    """An error that arrives later takes the place of another one, and the next one that of one that is closed."""
    visit(page, site_server.url, "/reports/")
    notify(site_server, "for n in range(12): notify(user, f'Number {n}')")
    expect_unread(page, 12)
    expect(find_toasts(page)).to_have_count(4)
    expect(find_toasts(page).last).to_contain_text("9 more")
    notify(site_server, "notify(user, 'Warned', level='warning'); notify(user, 'Went wrong', level='error')")
    expect(find_toasts(page).nth(0)).to_contain_text("Went wrong")
    expect(find_toasts(page).nth(1)).to_contain_text("Warned")
    expect(find_toasts(page).nth(2)).to_contain_text("Number 0")
    expect(find_toasts(page).last).to_contain_text("11 more")
    find_toasts(page).nth(2).hover()
    notify(site_server, "for n in range(4): notify(user, f'Error {n}', level='error')")
    expect(find_toasts(page)).to_have_count(4)
    expect(find_toasts(page).last).to_contain_text("15 more, 3 errors")
    expect(find_toasts(page).nth(2)).to_contain_text("Number 0")  # Its user is about to press it.
    page.mouse.move(0, 0)
    find_toasts(page).last.get_by_role("link").focus()
    notify(site_server, "notify(user, 'Error 4', level='error')")
    expect(find_toasts(page).last).to_contain_text("16 more, 3 errors")
    expect(find_toasts(page).nth(2)).to_contain_text("Error 1")
    expect(find_toasts(page).last.get_by_role("link")).to_be_focused()
    # What has something to do comes after the errors.
    actions = [{"label": "Approve", "url": "/check/"}]
    notify(site_server, f"notify(user, 'Ada asks', actions={actions})")
    expect(find_toasts(page).last).to_contain_text("17 more, 3 errors")
    # On a phone there is room for one. The next one takes the place of one that is closed, and has the focus.
    page.set_viewport_size({"width": 380, "height": 800})
    notify(site_server, "notify(user, 'Error 5', level='error')")
    for left in ("20 more, 6 errors", "19 more, 5 errors", "18 more, 4 errors", "17 more, 3 errors"):
        expect(find_toasts(page)).to_have_count(2)
        expect(find_toasts(page).last).to_contain_text(left)
        close = find_toasts(page).first.get_by_role("button", name="Dismiss")
        close.press("Enter")
    expect(find_toasts(page).first.get_by_role("link")).to_be_focused()
    for _ in range(3):
        find_toasts(page).first.get_by_role("button", name="Dismiss").press("Enter")
    expect(find_toasts(page).first).to_contain_text("Ada asks")
    expect(find_toasts(page).last).to_contain_text("13 more")
    find_toasts(page).last.get_by_role("link").click()
    expect(page.get_by_role("heading", name="Notifications")).to_be_visible()


@pytest.mark.nightly
def test_what_a_list_on_the_screen_offers_is_no_toast(site_server, page):
    """The open bell, and the inbox where its filters list it: their button counts it, and keeps the filters."""
    visit(page, site_server.url, "/reports/")
    notify(site_server, "notify(user, 'First')")
    expect(find_toasts(page)).to_have_count(1)
    open_bell(page)
    notify(site_server, "notify(user, 'Second', level='error')")
    expect(page.get_by_role("button", name="1 new", exact=True)).to_be_visible()
    page.wait_for_timeout(300)
    expect(find_toasts(page)).to_have_count(0)
    # It lists no question, and does not offer what it would not list.
    page.get_by_role("button", name="Questions").click()
    expect(page.get_by_role("button", name="1 new", exact=True)).to_be_hidden()
    notify(site_server, "notify(user, 'Elsewhere')")
    expect(find_toasts(page)).to_contain_text("Elsewhere")
    expect(page.get_by_role("button", name="1 new", exact=True)).to_be_hidden()
    # The bell opens with the list of all, which shows what the toasts do.
    page.keyboard.press("Escape")
    expect(open_bell(page).get_by_role("link", name="Elsewhere")).to_be_visible()
    expect(find_toasts(page)).to_have_count(0)
    page.goto(f"{site_server.url}/notifications/?level=error")
    wait_until_live(page)
    notify(site_server, "notify(user, 'Third', level='error'); notify(user, 'Fourth')")
    expect(find_toasts(page)).to_contain_text("Fourth")
    expect(find_toasts(page)).to_have_count(1)
    page.get_by_role("link", name="1 new", exact=True).click()
    expect(page.locator("notifications-inbox").get_by_role("link", name="Third")).to_be_visible()
    assert page.url.endswith("?level=error")


def test_errors_stay_and_other_toasts_disappear(site_server, page):
    """Errors are in the alert region. Other toasts disappear after 8 s, unless hovered. Escape dismisses a toast."""
    visit(page, site_server.url, "/reports/")
    page.clock.install()
    page.get_by_label("Title").focus()
    notify(site_server, "notify(user, 'Went wrong', level='error')", "notify(user, 'All info_toast')")
    page.clock.run_for(500)
    expect(page.get_by_role("alert").get_by_text("Went wrong")).to_be_visible()
    expect(page.locator("notifications-toasts [role=status]").get_by_text("All info_toast")).to_be_visible()
    expect(page.get_by_label("Title")).to_be_focused()
    info_toast = find_toasts(page).filter(has_text="All info_toast")
    info_toast.hover()
    page.clock.run_for(60_000)
    expect(info_toast).to_be_visible()
    page.mouse.move(0, 0)
    page.clock.run_for(9_000)
    expect(info_toast).to_have_count(0)
    expect(find_toasts(page)).to_have_count(1)
    page.keyboard.press("Escape")
    expect(find_toasts(page)).to_have_count(0)
    expect(page.get_by_label("Title")).to_be_focused()
    # An error takes the place of one that has disappeared after it was in use.
    page.set_viewport_size({"width": 380, "height": 800})
    notify(site_server, "notify(user, 'In use')")
    find_toasts(page).hover()
    notify(site_server, "for n in range(2): notify(user, 'Also wrong', level='error')")
    expect(find_toasts(page).last).to_contain_text("2 more, 2 errors")
    expect(find_toasts(page).first).to_contain_text("In use")
    page.mouse.move(0, 700)
    page.clock.run_for(9_000)
    expect(find_toasts(page).last).to_contain_text("1 more, 1 error")
    expect(find_toasts(page).first).to_contain_text("Also wrong")


def test_dismissing_does_not_mark_as_read(site_server, page):
    """The notification is still unread in the bell. F8 moves the focus to the toast and back, also to no element.

    From a toast that is dismissed it returns to where it was before, also if it came by another way.
    """
    visit(page, site_server.url, "/reports/")
    notify(site_server, "notify(user, 'Later')")
    expect(find_toasts(page)).to_have_count(1)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("F8")
    expect(find_toasts(page).get_by_role("link")).to_be_focused()
    page.keyboard.press("F8")
    expect(find_toasts(page).get_by_role("link")).not_to_be_focused()
    page.get_by_label("Title").focus()
    find_toasts(page).get_by_role("button", name="Dismiss").click()
    expect(find_toasts(page)).to_have_count(0)
    expect(page.get_by_label("Title")).to_be_focused()
    expect_unread(page, 1)


@pytest.mark.nightly
def test_the_space_of_toasts(site_server, new_page):
    """Only the title leaves room for the button that dismisses. Toasts are 8 px apart, 16 px from the edges."""
    options = {"has_touch": True, "is_mobile": True, "reduced_motion": "reduce"}
    page = new_page(viewport={"width": 800, "height": 800}, **options)
    visit(page, site_server.url, "/reports/")
    actions = [{"label": label, "url": "/check/"} for label in ("Approve", "Decline", "Open it")]
    notify(site_server, f"notify(user, 'Ada asks', level='error', actions={actions}, body='word ' * 40)")
    expect(find_toasts(page)).to_have_count(1)
    edges = """(nodes) => nodes.map((node) => node.getBoundingClientRect())
        .map(({ top, bottom, right }) => [top, bottom, right])"""
    ((_, bottom, right),) = find_toasts(page).evaluate_all(edges)
    assert (bottom, right) == (784, 784)
    ((*_, end),) = find_toasts(page).locator(".notifications-body").evaluate_all(edges)
    assert end == right - 16
    notify(site_server, "for n in range(5): notify(user, f'Number {n}', body='Body' * (n % 2))")
    expect(find_toasts(page)).to_have_count(4)
    boxes = find_toasts(page).evaluate_all(edges)
    assert [below[0] - above[1] for above, below in pairwise(boxes)] == [8, 8, 8]
    assert page.evaluate(FIND_SMALL, "notifications-toasts") == []


@pytest.mark.nightly
def test_once_per_browser(site_server, new_page):
    """One of two tabs shows the toast, and the next page does not show it again."""
    first = new_page()
    visit(first, site_server.url, "/reports/")
    second = first.context.new_page()
    second.goto(f"{site_server.url}/check/")
    wait_until_live(second)
    for page in (first, second):
        start_counting_toasts(page)
    notify(site_server, "notify(user, 'Only once')")
    for page in (first, second):
        expect_unread(page, 1)
    first.wait_for_function("() => JSON.stringify({ ...localStorage }).includes(':shown')")
    first.wait_for_timeout(300)  # Toasts are batched for 100 ms, so a second one would be visible by now.
    assert read_toast_count(first) + read_toast_count(second) == 1
    first.goto(f"{site_server.url}/check/")
    wait_until_live(first)
    start_counting_toasts(first)
    notify(site_server, "notify(user, 'And this')")
    expect_unread(first, 2)
    expect(find_toasts(first).filter(has_text="Only once")).to_have_count(0)


def test_a_notification_between_two_pages_becomes_a_toast_on_the_second(site_server, page):
    """It is created after the browser left the first page, and is in the unread count of the second page's HTML."""
    visit(page, site_server.url, "/reports/")
    page.goto("about:blank")
    notify(site_server, "notify(user, 'On the way')")
    page.goto(f"{site_server.url}/check/")
    expect(find_toasts(page)).to_contain_text("On the way")
    expect_unread(page, 1)


def test_reading_on_another_device_removes_the_toast(site_server, new_page):
    """Without that, an error toast would stay."""
    page, other_device = new_page(), new_page()
    visit(page, site_server.url, "/reports/")
    visit(other_device, site_server.url, "/reports/")
    notify(site_server, "notify(user, 'Seen', url='/check/', level='error')")
    expect(find_toasts(page)).to_have_count(1)
    find_toasts(other_device).get_by_role("link", name="Seen").click()
    expect(find_toasts(page)).to_have_count(0)


def test_markup_is_shown_as_text_and_links_are_safe(site_server, page):
    """An external link has no opener."""
    visit(page, site_server.url, "/reports/")
    notify(
        site_server,
        "notify(user, '<img src=x onerror=alert(1)>', body='<b>bold</b>', url='https://example.org/')",
    )
    link = find_toasts(page).get_by_role("link")
    expect(link).to_contain_text("<img src=x onerror=alert(1)>")
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    expect(find_toasts(page)).to_contain_text("<b>bold</b>")
    expect(find_toasts(page).locator("img, b")).to_have_count(0)
