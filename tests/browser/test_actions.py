"""Actions of notifications that post: in place, in toast, bell and inbox, and without JavaScript on a page."""

import os
import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.parts import expect_unread, find_toasts, open_bell, visit
from tests.support.axe import find_violations
from tests.support.browser import sign_in

pytestmark = pytest.mark.browser

NOTIFY = """
from django.contrib.auth import get_user_model
from notifications.api import notify
user = get_user_model().objects.get(username="demo")
notify(user, "Ada requests access to Reports", body="She is on call until Monday.", actor="Ada Lovelace", actions=[
    {"label": "Approve", "post": "/access/7/approve/"},
    {"label": "Decline", "post": "/access/7/decline/"},
    {"label": "View request", "url": "/check/"},
])
notify(user, "Export.csv takes 2 GB", level="warning", actions=[
    {"label": "Delete", "post": "/files/7/delete/", "danger": "Export.csv is deleted for everyone."},
    {"label": "Keep", "post": "/files/7/keep/"},
])
"""


class Project:
    """Answers the requests of actions in place of views of a project, and counts them by path."""

    def __init__(self, page, site_url):
        self.requests, self.responses = [], {}
        for folder in ("access", "files"):
            page.route(f"{site_url}/{folder}/**", self._answer)

    def _answer(self, route):
        request = route.request
        path = request.url.partition(request.headers["origin"])[2]
        self.requests.append((request.method, path, bool(request.headers.get("x-csrftoken"))))
        route.fulfill(**self.responses.get(path, {"status": 204}))


def keep_screenshot(page, name):
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"actions-{name}.png")


def find_button(place, name):
    """Those that send something are buttons."""
    return place.get_by_role("button", name=name).or_(place.get_by_role("link", name=name))


def test_in_place(site_server, new_page):
    """Refused, then done, in a toast and in the bell; a danger is confirmed; anything else opens the page."""
    page = new_page(errors=False)  # Chromium logs the statuses.
    visit(page, site_server.url, "/check/")
    page.clock.install()
    project = Project(page, site_server.url)
    site_server.python(NOTIFY)
    toasts = find_toasts(page)
    expect(toasts).to_have_count(2)
    keep_screenshot(page, "toasts")
    detail = {"title": "Conflict", "status": 409, "detail": "Linus has declined it."}
    refusal = {"status": 409, "json": detail, "content_type": "application/problem+json"}
    project.responses["/files/7/keep/"] = refusal
    find_button(toasts, "Keep").hover()  # It waits until nothing moves.
    place = find_button(toasts, "Keep").bounding_box()
    find_button(toasts, "Keep").click()
    expect(toasts.get_by_role("alert")).to_have_text("Linus has declined it.")
    assert find_button(toasts, "Keep").bounding_box() == place, "the button moves under the pointer"
    assert project.requests.pop()[1] == "/files/7/keep/"
    # A dialog asks for what destroys something, with what is lost as its heading. Nothing is sent before.
    find_button(toasts, "Delete").click()
    dialog = page.get_by_role("dialog", name="Export.csv is deleted for everyone.")
    expect(dialog.get_by_role("heading")).to_have_text("Export.csv is deleted for everyone.")
    keep_screenshot(page, "danger")
    assert not find_violations(page, "dialog")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    assert not project.requests
    expect(find_button(toasts, "Delete")).to_be_focused()
    find_button(toasts, "Delete").click()
    page.clock.pause_at(datetime.now() + timedelta(seconds=3))
    dialog.get_by_role("button", name="Delete").click()
    expect(find_button(toasts, "Delete")).to_have_attribute("aria-disabled", "true")
    expect(find_button(toasts, "Keep")).to_have_count(0)
    expect(toasts.get_by_role("status").filter(has_text="Done")).to_have_count(1)
    assert project.requests == [("POST", "/files/7/delete/", True)]
    expect_unread(page, 1)
    # What is done is seen for a moment, whatever arrives, which has its own place.
    expect(toasts.get_by_role("alert")).to_have_count(0)
    assert find_button(toasts, "Delete").bounding_box()["y"] == place["y"]
    notify_more = (
        NOTIFY.partition("notify(")[0] + "for n in range(4): notify(user, f'Number {n}', level='error')"
    )
    site_server.python(notify_more)
    expect_unread(page, 5)
    page.clock.run_for(500)
    expect(page.locator("notifications-toasts > [role=status] > .notifications-rest")).to_contain_text(
        "3 more"
    )
    page.clock.run_for(1_500)
    expect(find_button(toasts, "Delete")).to_be_visible()
    page.clock.run_for(1_000)
    expect(find_button(toasts, "Delete")).to_have_count(0)
    page.clock.resume()
    # The bell shows why the project has refused it, and the action can be pressed again.
    panel = open_bell(page)
    project.responses["/access/7/approve/"] = refusal
    find_button(panel, "Approve").click()
    expect(panel.get_by_role("alert")).to_have_text("Linus has declined it.")
    expect(find_button(panel, "Decline")).to_be_visible()
    keep_screenshot(page, "problem")
    # While it is pending it is sent once.
    waiting = []
    page.route("**/access/7/approve/", lambda route: waiting.append(route))
    find_button(panel, "Approve").click()
    expect(find_button(panel, "Approve")).to_have_attribute("aria-busy", "true")
    expect(find_button(panel, "Approve")).to_have_css("opacity", "1")  # Its text has its contrast.
    keep_screenshot(page, "pending")
    find_button(panel, "Approve").click()
    assert len(waiting) == 1
    waiting.pop().fulfill(status=200, body="Approved")
    expect(find_button(panel, "Approve")).to_have_attribute("aria-disabled", "true")
    expect(panel.get_by_role("alert")).to_have_count(0)
    expect(find_button(panel, "View request")).to_be_visible()
    keep_screenshot(page, "done")
    expect_unread(page, 4)
    assert page.url.endswith("/check/")


def test_what_was_done_is_kept(site_server, new_page):
    """It is not offered again after a reload, nor in another window, on whose page it is refused."""
    page, other = new_page(), new_page()
    site_server.python(NOTIFY)
    project = Project(page, site_server.url)
    for each in (page, other):
        visit(each, site_server.url, "/check/")
    row = open_bell(other).locator("li", has_text="Ada requests access")
    address = find_button(row, "Approve").get_attribute("href")
    find_button(open_bell(page), "Approve").click()
    expect(find_button(row, "Approve")).to_have_attribute("aria-disabled", "true")
    expect(find_button(row, "Decline")).to_have_count(0)
    for place in (page, other):
        place.goto(f"{site_server.url}/notifications/")
        row = place.locator("notifications-inbox li", has_text="Ada requests access")
        expect(find_button(row, "Approve")).to_have_attribute("aria-disabled", "true")
        expect(find_button(row, "Decline")).to_have_count(0)
        expect(find_button(row, "View request")).to_be_visible()
    keep_screenshot(page, "done-inbox")
    panel = open_bell(page)
    expect(find_button(panel, "Approve")).to_have_attribute("aria-disabled", "true")
    expect(find_button(panel, "Decline")).to_have_count(0)
    find_button(panel, "Approve").click(force=True)
    page.goto(site_server.url + address)
    expect(page.get_by_role("status").filter(has_text="Done")).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    keep_screenshot(page, "done-page")
    assert project.requests == [("POST", "/access/7/approve/", True)]


@pytest.mark.nightly
def test_in_the_inbox(site_server, new_page):
    """In its rows and in the reading pane, where what is done in the other is not sent again.

    What the server answers, or that there is no response, is said at the button; what is behind a redirect is shown.
    What is not done marks nothing as read.
    """
    page = new_page(errors=False)
    project = Project(page, site_server.url)
    site_server.python(NOTIFY)
    visit(page, site_server.url, "/notifications/")
    pane = page.get_by_role("region", name="Reading pane")
    expect(pane.get_by_role("heading", level=2)).to_have_text("Export.csv takes 2 GB")
    keep_screenshot(page, "inbox")
    page.route("**/files/7/keep/", lambda route: route.abort())
    find_button(pane, "Keep").click()
    expect(pane.get_by_role("alert")).to_have_text("No response. See whether it was done.")
    link = pane.get_by_role("alert").get_by_role("link")
    expect(link).to_have_attribute("href", re.compile("/notifications/[0-9a-f-]{36}/$"))
    keep_screenshot(page, "pane")
    page.unroute("**/files/7/keep/")
    error = {"status": 404, "body": "<h1>Not Found</h1>", "content_type": "text/html"}
    for status, text in (
        (404, "Not done. The server answered 404."),
        (504, "No response. See whether it was done."),
    ):
        project.responses["/files/7/keep/"] = error | {"status": status}
        find_button(pane, "Keep").click()
        expect(pane.get_by_role("alert")).to_have_text(text)
    assert page.url.endswith("/notifications/") and len(project.requests) == 2
    project.requests.clear()
    # The content that is loaded meanwhile replaces no open dialog.
    find_button(pane, "Delete").click()
    shown = pane.locator("h2").first.element_handle()
    with page.expect_response(lambda response: "part=pane" in response.url):
        pane.evaluate("(pane) => pane.dispatchEvent(new Event('notifications:job-done'))")
    page.wait_for_timeout(150)
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    page.wait_for_function("(heading) => !heading.isConnected", arg=shown)
    expect(page.locator("li[data-unread]")).to_have_count(2)
    row = page.locator("li", has_text="Ada requests access")
    find_button(row, "Decline").click()
    expect(find_button(row, "Decline")).to_have_attribute("aria-disabled", "true")
    row.click(position={"x": 220, "y": 12})
    expect(pane.get_by_role("heading", level=2)).to_have_text("Ada requests access to Reports")
    expect(find_button(pane, "Decline")).to_have_attribute("aria-disabled", "true")
    expect(find_button(pane, "Approve")).to_have_count(0)
    find_button(pane, "Decline").click(force=True)
    assert project.requests == [("POST", "/access/7/decline/", True)]
    project.responses["/files/7/delete/"] = {"status": 303, "headers": {"Location": "/gone/"}}
    find_button(page.locator("li", has_text="Export.csv"), "Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Export.csv is deleted for everyone.")).to_be_visible()
    keep_screenshot(page, "page")
    expect(page.get_by_role("button", name="Delete")).to_have_class(
        "notifications-mainbutton notifications-danger"
    )


@pytest.mark.nightly
def test_without_javascript(site_server, new_page):
    """The button leads to a page that asks, whose main button is filled."""
    page = new_page(java_script_enabled=False)
    site_server.python(NOTIFY)
    sign_in(page, site_server.url)
    page.goto(f"{site_server.url}/notifications/")
    page.get_by_role("link", name="Approve: Ada requests access to Reports").click()
    expect(page.get_by_role("heading", name="Approve?")).to_be_visible()
    button = page.get_by_role("button", name="Approve")
    accent = "getComputedStyle(button).backgroundColor"
    assert button.evaluate(f"(button) => {accent}") == "rgb(29, 95, 208)"


NOTIFY_ONE = """
from django.contrib.auth import get_user_model
from notifications.api import notify
user = get_user_model().objects.get(username="demo")
notify(user, "Ada requests access", actions=[{"label": "Approve", "post": "/language/?next=/check/"}])
"""


def test_without_javascript_it_is_sent_once(site_server, new_page):
    """The form reaches a real view with method, body and CSRF token, and is not sent again by the same press."""
    page = new_page(errors=False, java_script_enabled=False)  # Chromium logs the 409.
    site_server.python(NOTIFY_ONE)
    sign_in(page, site_server.url)
    page.goto(f"{site_server.url}/notifications/")
    page.get_by_role("link", name="Approve: Ada requests access").click()
    confirm = page.url
    with page.expect_response("**/language/**") as posted:
        page.get_by_role("button", name="Approve").click()
    expect(page).to_have_url(f"{site_server.url}/check/")
    assert posted.value.request.method == "POST" and posted.value.status == 302
    page.goto(f"{site_server.url}/notifications/")
    page.get_by_role("link", name="Approve: Ada requests access").click()
    assert page.url == confirm
    expect(page.get_by_role("status").filter(has_text="Sent · ")).to_be_visible()
    keep_screenshot(page, "sent-page")
    page.get_by_role("button", name="Send again").click()
    expect(page).to_have_url(f"{site_server.url}/check/")
