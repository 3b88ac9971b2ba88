"""What people come for, on a phone, with the presses that it takes: one counted for each press and field."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.parts import (
    create_report,
    find_bell,
    find_toasts,
    read_stored_titles,
    visit,
    wait_until_live,
)
from tests.browser.test_touch import PHONE
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

ASK = """
from django.contrib.auth import get_user_model
from tests.contrib.questions import question_tasks
question_tasks.ask_sync.using(owner=get_user_model().objects.get(username="demo")).enqueue()
"""

FAIL = """
from django.contrib.auth import get_user_model
from tests.jobs import tasks
for name in ("demo", "other", "demo"):
    tasks.fail.using(owner=get_user_model().objects.get(username=name)).enqueue("Partner: no answer")
"""


class Presses:
    """Acts on a page as a finger does, and counts."""

    def __init__(self, page):
        self.page, self.count = page, 0

    def tap(self, locator):
        expect(locator).to_be_in_viewport()
        self.count += 1
        locator.tap()

    def fill(self, locator, text):
        self.count += 1
        locator.fill(text)


def test_report_question_and_failure(site_server, new_page):
    """A finished report is found, a question is answered, and what failed is seen from the toast of its report."""
    site, page = site_server, new_page(**PHONE)
    first, second = site.held_urls(2)
    passing = [f"{site.url}/upstream/ok?n={n}" for n in range(30)]
    failing, limited = (f"{site.url}/upstream/status/{status}" for status in (404, 429))
    report_page = re.compile(r"/reports/\d+/$")
    panel = page.get_by_role("dialog", name="Notifications")

    # The report ends while its owner is signed out.
    visit(page, site.url)
    create_report(page, site.url, [first], "Partners")
    page.goto("about:blank")
    page.context.clear_cookies()
    site.release(1)
    wait_until(lambda: read_stored_titles(site))
    page.goto(f"{site.url}/check/")
    presses = Presses(page)
    presses.fill(page.get_by_label("Username"), "demo")
    presses.fill(page.get_by_label("Password"), "demo")
    presses.tap(page.get_by_role("button", name="Sign in"))
    wait_until_live(page)
    presses.tap(find_bell(page))
    presses.tap(panel.get_by_role("link", name=re.compile("Partners")))
    page.wait_for_url(report_page)
    expect(page.get_by_role("heading", name="Partners")).to_be_in_viewport()
    assert presses.count <= 8

    site.python(ASK)
    expect(page.locator("notifications-bell .notifications-asks")).to_be_visible()
    presses = Presses(page)
    presses.tap(find_bell(page))
    presses.tap(panel.get_by_role("button", name="Ship: Ship?"))
    expect(panel).to_contain_text("You answered “Ship”")
    assert presses.count <= 3

    create_report(page, site.url, [*passing, failing, limited, second], "Clients")
    page.goto(f"{site.url}/check/")
    wait_until_live(page)
    site.release(2)
    presses = Presses(page)
    presses.tap(find_toasts(page).get_by_role("link", name=re.compile("Clients")))
    page.wait_for_url(report_page)
    failed = page.get_by_role("row").filter(has_text="status/404")
    expect(failed).to_be_in_viewport(ratio=1)
    page.reload()  # It has not been watched.
    assert failed.bounding_box()["y"] < 450
    assert presses.count == 1
    long = page.get_by_role("row").filter(has_text="429 Too Many Requests")
    outcome, button = long.locator(".outcome"), long.get_by_role("button", name="Try again")
    middle = outcome.bounding_box()["y"] + outcome.bounding_box()["height"] / 2
    box = button.bounding_box()
    assert box["y"] < middle < box["y"] + box["height"], "the button has a line of its own"
    page.get_by_role("button", name="More", exact=True).tap()
    menu = page.locator("#more").bounding_box()
    assert (menu["x"], menu["width"]) == (8, 364), "the menu is not at the lower edge of the window"


@pytest.mark.nightly
def test_what_failed_whom_tell_them(site_server, new_page):
    """An operator marks the time on a chart, sees what failed in it and whom it affects, and writes to them.

    In four presses: the mark, "Tell those affected", "Preview" and "Send"; the text is typed.
    """
    site, page = site_server, new_page(viewport={"width": 1280, "height": 900}, errors=False)
    site.python(FAIL)
    sql = "SELECT count(*) FROM notifications_job WHERE state = 'failed'"
    wait_until(lambda: site.rows(sql) == [(3,)], what="the jobs to fail")
    visit(page, site.url, "/admin/notifications_operations/overview/", username="admin")
    box = page.locator(".lines").first.bounding_box()
    y, right = box["y"] + box["height"] / 2, box["x"] + box["width"]
    page.mouse.move(right - 40, y)
    page.mouse.down()
    page.mouse.move(right + 5, y, steps=4)
    expect(page.locator("rect.mark")).to_be_visible()
    page.mouse.up()
    presses = 1
    page.wait_for_url(re.compile(r"period=2\d{3}-"))
    failure = page.get_by_role("row").filter(has_text="Partner: no answer")
    expect(failure.get_by_role("cell")).to_contain_text(["ValueError", "3", "2"])
    for name in ("Tell those affected", "Preview", "Send to 2 users"):
        if name == "Preview":
            expect(page.get_by_label("Those affected by a failure")).to_be_checked()
            page.get_by_label("Title").fill("The partner did not answer")
        buttons = failure.get_by_role("button") if presses == 1 else page.get_by_role("button")
        buttons.and_(page.get_by_role("button", name=name)).click()
        presses += 1
    assert presses <= 4
    sent = "SELECT count(*) FROM notifications_notification WHERE title = 'The partner did not answer'"
    wait_until(lambda: site.rows(sent) == [(2,)], what="both to be notified")
