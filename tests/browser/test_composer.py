"""The composer of the admin beside a running worker: readers see what is sent and withdrawn without a reload."""

import pytest
from playwright.sync_api import expect

from tests.browser.parts import expect_unread, open_bell, visit
from tests.support.browser import sign_in

COMPOSER = "/admin/notifications_broadcasts/broadcast/add/"


@pytest.mark.nightly_names("*[no JavaScript]")
@pytest.mark.parametrize(
    "has_javascript",
    [True, False],
    ids=["JavaScript", "no JavaScript"],
)
def test_send_and_withdraw(site_server, new_page, has_javascript):
    """From the form to the readers' bell, and out of it again; the page of the broadcast says when it is done."""
    reader = visit(new_page(), site_server.url)
    # The admin has no favicon.
    staff = new_page(errors=False, java_script_enabled=has_javascript, viewport={"width": 380, "height": 800})
    sign_in(staff, site_server.url, "admin")
    staff.goto(site_server.url + COMPOSER)
    staff.get_by_label("Title").fill("Maintenance at 22:00")
    expect(staff.get_by_label("Names of users")).to_be_hidden()
    staff.get_by_label("Users", exact=True).check()
    staff.get_by_label("Names of users").fill("demo, demmo")
    staff.get_by_role("button", name="Preview").click()
    expect(staff.locator(".errornote")).to_contain_text("There is no user with this name: demmo.")
    staff.get_by_label("Names of users").fill("demo\nother")
    staff.get_by_role("button", name="Preview").click()
    expect(staff.get_by_text("Users: demo, other")).to_be_visible()
    assert staff.evaluate("document.documentElement.scrollWidth") <= 380
    staff.get_by_role("button", name="Send to 2 users").click()
    expect_unread(reader, 1)
    expect(open_bell(reader).get_by_text("Maintenance at 22:00")).to_be_visible()

    staff.wait_for_url("**/change/")
    page = staff.url
    expect_state(staff, page, "Sent")
    staff.get_by_role("link", name="Withdraw").click()
    staff.get_by_role("button", name="Withdraw").click()
    expect_unread(reader, 0)
    expect_state(staff, page, "Withdrawn")


def expect_state(page, url, state):
    """Reload the page of a broadcast until it has this state."""
    for _attempt in range(60):
        page.goto(url)
        if page.locator("p > strong", has_text=state).count():
            break
        page.wait_for_timeout(500)
    expect(page.locator("p > strong")).to_have_text(state)
