"""Snooze in a browser: by buttons and by key, in the time zone of the browser, and raised again."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.parts import visit
from tests.browser.test_inbox import CREATE, message, row, rows, unread_rows, wait_for_keys
from tests.support.axe import find_violations
from tests.support.browser import sign_in

pytestmark = pytest.mark.browser

END = """
from notifications import times
from notifications.models import Notification
Notification.objects.exclude(snoozed_until=None).update(snoozed_until=times.now())
"""


@pytest.mark.nightly
def test_the_selected_ones(site_server, new_page):
    """By the toolbar or by key, in place; a wrong time changes nothing, *Undo* changes them back."""
    page = new_page(errors=False)  # The console has the response to the wrong time.
    site_server.python(CREATE.format(count=4))
    wait_for_keys(visit(page, site_server.url, "/notifications/"))
    page.evaluate("window.isSamePage = true")
    for number in (1, 3):
        row(page, f"Number {number}").get_by_role("checkbox").check()
    page.locator(".notifications-toolbar").get_by_role("button", name="Snooze").click()
    page.get_by_role("dialog").get_by_text("Pick a time…").click()
    page.get_by_role("dialog").get_by_label("Time").fill("2020-01-01T08:00")
    page.get_by_role("dialog", name="Snooze").get_by_role("button", name="Snooze").click()
    expect(message(page)).to_contain_text("Choose a time in the future, at most a year ahead.")
    expect(rows(page)).to_have_count(4)
    page.keyboard.press("h")
    in_hours = page.evaluate(
        "new Date(Date.now() + 3 * 3_600_000).toTimeString().slice(0, 4)"
    )  # without minutes
    expect(page.get_by_role("dialog")).to_contain_text(f"In 3 hours, {in_hours}")
    page.get_by_role("dialog").get_by_role("button", name="Tomorrow, 08:00").click()
    expect(message(page)).to_contain_text("2 snoozed until tomorrow, 08:00.")
    expect(rows(page)).to_have_count(2)
    expect(page.get_by_role("link", name="Snoozed 2")).to_be_visible()
    message(page).get_by_role("button", name="Undo").click()
    expect(rows(page)).to_have_count(4)
    expect(page.get_by_role("link", name="Snoozed")).to_have_count(0)
    row(page, "Number 1").get_by_role("checkbox").check()
    page.locator(".notifications-toolbar").get_by_role("button", name="Snooze").click()
    page.locator("#notifications-snoozing details").evaluate("(details) => { details.open = true; }")
    soon = page.evaluate("new Date(Date.now() + 30 * 86_400_000).toISOString().slice(0, 10)")
    page.get_by_role("dialog").get_by_label("Time").fill(f"{soon}T15:30")
    page.get_by_role("dialog", name="Snooze").get_by_role("button", name="Snooze").click()
    expect(message(page)).to_contain_text(re.compile(r"1 snoozed: \w+ \d+, \d{4}, 3:30.PM\."))
    assert page.evaluate("window.isSamePage")


@pytest.mark.nightly
def test_a_click_beside_the_dialog_only_closes_it(site_server, new_page):
    """The page behind it gets no click."""
    page = new_page()
    site_server.python(CREATE.format(count=3))
    wait_for_keys(visit(page, site_server.url, "/notifications/"))
    address = page.url
    title = page.get_by_role("link", name="Number 1", exact=True).bounding_box()
    dialog = page.get_by_role("dialog", name="Snooze")
    row(page, "Number 3").get_by_role("checkbox").check()
    for close in (
        lambda: page.mouse.click(title["x"] + 5, title["y"] + 5),
        lambda: dialog.get_by_role("button", name="Cancel").click(),
        lambda: page.keyboard.press("Escape"),
    ):
        page.locator(".notifications-toolbar").get_by_role("button", name="Snooze").click()
        expect(dialog).to_be_visible()
        assert find_violations(page) == []
        close()
        expect(dialog).to_be_hidden()
    expect(unread_rows(page)).to_have_count(3)
    assert page.url == address


@pytest.mark.nightly
def test_the_selected_ones_without_javascript(site_server, new_page):
    site_server.python(CREATE.format(count=3))
    page = new_page(java_script_enabled=False)
    sign_in(page, site_server.url)
    page.goto(f"{site_server.url}/notifications/")
    for number in (1, 3):
        row(page, f"Number {number}").get_by_role("checkbox").check()
    page.locator(".notifications-toolbar").get_by_role("button", name="Snooze").click()
    page.get_by_role("button", name="In 3 hours").click()
    expect(page.get_by_text("2 snoozed until")).to_be_visible()
    expect(rows(page)).to_have_count(1)


def test_snoozed_until_tomorrow_and_raised_again(site_server, new_page):
    """By the button of the row, without a second click, and found by the view; the pane has other times."""
    page = new_page(timezone_id="Asia/Tokyo")
    site_server.python(CREATE.format(count=3))
    wait_for_keys(visit(page, site_server.url, "/notifications/"))
    pane = page.locator(".notifications-pane")
    pane.locator("summary", has_text="Snooze").click()
    assert find_violations(page) == []
    pane.get_by_role("button", name="In 3 hours").click()
    expect(row(page, "Number 3")).to_be_hidden()
    message(page).get_by_role("button", name="Undo").click()
    expect(rows(page)).to_have_count(3)
    row(page, "Number 2").hover()
    page.get_by_role("button", name="Snooze until tomorrow, 08:00: Number 2").click()
    expect(page.get_by_text("1 snoozed until tomorrow, 08:00.")).to_be_visible()
    expect(rows(page)).to_have_count(2)
    page.get_by_role("link", name="Snoozed 1").click()
    expect(row(page, "Number 2")).to_contain_text("08:00")
    site_server.python(END)
    expect(page.locator(".notifications-toast")).to_contain_text("Number 2")
    page.goto(f"{site_server.url}/notifications/")
    expect(rows(page).first).to_contain_text("Number 2")
