"""Toasts: at most three, once per browser, announced and never in the way."""

import pytest
from playwright.sync_api import expect

from tests.browser.parts import count_toasts, expect_unread, live, shown_toasts, toasts, visit

pytestmark = pytest.mark.browser

NOTIFY = """
from django.contrib.auth import get_user_model
from notifications.api import notify
user = get_user_model().objects.get(username="demo")
"""


def notify(site, *lines):
    site.python(NOTIFY + "\n".join(lines))


def test_more_than_three_are_one_that_counts_them(site_server, page):
    """Twelve at once: one toast, one announcement, and the bell knows them all."""
    visit(page, site_server.url, "/reports/")
    notify(site_server, "for n in range(12): notify(user, f'Number {n}')")
    expect_unread(page, 12)
    expect(toasts(page)).to_have_count(1)
    expect(toasts(page)).to_contain_text("12 new notifications")
    toasts(page).get_by_role("link").click()
    expect(page.get_by_role("heading", name="Notifications")).to_be_visible()


def test_errors_stay_others_go_hover_keeps_and_escape_dismisses(site_server, page):
    """An error is in the alert region and stays; the others go after 8 s, later under the pointer or the focus."""
    visit(page, site_server.url, "/reports/")
    page.clock.install()
    page.get_by_label("Title").focus()
    notify(site_server, "notify(user, 'Went wrong', level='error')", "notify(user, 'All well')")
    page.clock.run_for(500)
    expect(page.get_by_role("alert").get_by_text("Went wrong")).to_be_visible()
    expect(page.locator("notifications-toasts [role=status]").get_by_text("All well")).to_be_visible()
    expect(page.get_by_label("Title")).to_be_focused()
    well = toasts(page).filter(has_text="All well")
    well.hover()
    page.clock.run_for(60_000)
    expect(well).to_be_visible()
    page.mouse.move(0, 0)
    page.clock.run_for(9_000)
    expect(well).to_have_count(0)
    expect(toasts(page)).to_have_count(1)
    page.keyboard.press("Escape")
    expect(toasts(page)).to_have_count(0)
    expect(page.get_by_label("Title")).to_be_focused()


def test_the_cross_dismisses_and_does_not_mark_as_read(site_server, page):
    """What is dismissed is still in the bell, unread."""
    visit(page, site_server.url, "/reports/")
    notify(site_server, "notify(user, 'Later')")
    toasts(page).get_by_role("button", name="Dismiss").click()
    expect(toasts(page)).to_have_count(0)
    expect_unread(page, 1)


def test_once_per_browser(site_server, new_page):
    """Two tabs of a browser show it once between them; the next page does not show it again."""
    first = new_page()
    visit(first, site_server.url, "/reports/")
    second = first.context.new_page()
    second.goto(f"{site_server.url}/check/")
    live(second)
    for page in (first, second):
        count_toasts(page)
    notify(site_server, "notify(user, 'Only once')")
    for page in (first, second):
        expect_unread(page, 1)
    first.wait_for_function("JSON.stringify({ ...localStorage }).includes(':shown')")
    first.wait_for_timeout(300)  # a second toast would be here by now: they gather for 100 ms
    assert shown_toasts(first) + shown_toasts(second) == 1
    first.goto(f"{site_server.url}/check/")
    live(first)
    count_toasts(first)
    notify(site_server, "notify(user, 'And this')")
    expect_unread(first, 2)
    expect(toasts(first).filter(has_text="Only once")).to_have_count(0)


def test_what_came_between_two_pages_is_told_on_the_second(site_server, page):
    """It was raised after the first page was left, and counted in the second page's HTML: its toast still comes."""
    visit(page, site_server.url, "/reports/")
    page.goto("about:blank")
    notify(site_server, "notify(user, 'On the way')")
    page.goto(f"{site_server.url}/check/")
    expect(toasts(page)).to_contain_text("On the way")
    expect_unread(page, 1)


def test_read_elsewhere_takes_the_toast_away(site_server, new_page):
    """The person reads it on another device: it need not be told here."""
    here, there = new_page(), new_page()
    visit(here, site_server.url, "/reports/")
    visit(there, site_server.url, "/reports/")
    notify(site_server, "notify(user, 'Seen', url='/check/', level='error')")
    expect(toasts(here)).to_have_count(1)
    toasts(there).get_by_role("link", name="Seen").click()
    expect(toasts(here)).to_have_count(0)


def test_text_is_text_and_links_are_safe(site_server, page):
    """Markup is shown as it was written; a link off the site has no opener."""
    visit(page, site_server.url, "/reports/")
    notify(
        site_server,
        "notify(user, '<img src=x onerror=alert(1)>', body='<b>bold</b>', url='https://example.org/')",
    )
    link = toasts(page).get_by_role("link")
    expect(link).to_contain_text("<img src=x onerror=alert(1)>")
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    expect(toasts(page)).to_contain_text("<b>bold</b>")
    expect(toasts(page).locator("img, b")).to_have_count(0)
