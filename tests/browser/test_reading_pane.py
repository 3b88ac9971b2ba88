"""The reading pane of the inbox in a browser: it follows the cursor, clicks, and what changes and leaves the list."""

import pytest
from playwright.sync_api import expect

from tests.browser.parts import visit
from tests.browser.test_inbox import CREATE, message, row, rows, unread_rows, wait_for_keys
from tests.browser.test_preferences import answer_requests
from tests.browser.test_questions import ASK
from tests.support.axe import find_violations
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

CHANGE = """
from django.contrib.auth import get_user_model
from notifications.models import Notification
from notifications.streams.marking import mark
row = Notification.objects.get(title="Number 2")
mark(row.user_id, "unread", row.raised, [row.pk])
"""

#: In one go: on a busy machine the pane follows between two keys.
PRESS_J_4_TIMES = """() => {
    for (let count = 0; count < 4; count++)
        document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "j", bubbles: true }));
}"""


@pytest.fixture
def inbox(site_server, new_page):
    """Return a wide page with five notifications, whose pane shows Number 5, and the requests for their contents."""
    site_server.python(CREATE.format(count=5))
    page = new_page(viewport={"width": 1280, "height": 800})
    page.loads = []
    page.on("request", lambda request: "part=pane" in request.url and page.loads.append(request.url))
    visit(page, site_server.url, "/notifications/")
    # Until the script of the pane is loaded, a click opens what the row links to.
    expect_shown(page, "Number 5")
    return wait_for_keys(page)


def find_pane(page):
    return page.get_by_role("region", name="Reading pane")


def expect_shown(page, title):
    expect(find_pane(page).get_by_role("heading", level=2)).to_have_text(title)
    expect(page.locator("notifications-inbox li[aria-current=true]")).to_contain_text(title)


def click_beside(page, title):
    """Click a row beside its texts and buttons."""
    row(page, title).click(position={"x": 220, "y": 12})


def test_it_follows_cursor_and_click(inbox):
    """A cursor that moves on loads one content and marks nothing as read; a click does. The focus stays in the list."""
    page = inbox
    page.evaluate("window.isSamePage = true")
    expect_shown(page, "Number 5")
    before = len(page.loads)
    page.evaluate(PRESS_J_4_TIMES)
    expect_shown(page, "Number 2")
    assert len(set(page.loads[before:])) == 1
    expect(row(page, "Number 2")).to_be_focused()
    expect(unread_rows(page)).to_have_count(5)
    assert find_violations(page) == []
    click_beside(page, "Number 4")
    expect_shown(page, "Number 4")
    expect(unread_rows(page)).to_have_count(4)
    page.keyboard.press("k")
    expect_shown(page, "Number 5")
    row(page, "Number 3").get_by_role("checkbox").check()
    expect_shown(page, "Number 5")
    page.get_by_role("link", name="Number 3", exact=True).click()
    expect_shown(page, "Number 3")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Number 2", exact=True).click(modifiers=["ControlOrMeta"])
    opened.value.wait_for_url("**/check/")
    click_beside(page, "Number 4")
    expect_shown(page, "Number 4")
    assert page.evaluate("window.isSamePage")
    find_pane(page).get_by_role("link", name="Open", exact=True).click()
    page.wait_for_url("**/check/")
    page.go_back()
    expect_shown(page, "Number 4")


@pytest.mark.nightly
def test_done_moves_on(inbox):
    """Verbs in the pane are those of the list: the next row is shown. What is done elsewhere, or undone, leaves it.

    A key in it moves on from the row that is shown.
    """
    page = inbox
    click_beside(page, "Number 3")
    expect_shown(page, "Number 3")
    find_pane(page).get_by_role("button", name="Done").click()
    expect(rows(page)).to_have_count(4)
    expect_shown(page, "Number 2")
    expect(find_pane(page).get_by_role("button", name="Done")).to_be_focused()
    message(page).get_by_role("button", name="Undo").click()
    number_3 = page.get_by_role("link", name="Number 3", exact=True)
    expect(number_3).to_be_focused()
    expect_shown(page, "Number 2")
    row(page, "Number 4").hover()
    row(page, "Number 4").get_by_role("button", name="Move to Done").click()
    expect(rows(page)).to_have_count(4)
    expect(number_3).to_be_focused()
    expect_shown(page, "Number 2")
    message(page).get_by_role("button", name="Undo").click()
    expect(rows(page)).to_have_count(5)
    click_beside(page, "Number 3")
    expect_shown(page, "Number 3")
    find_pane(page).get_by_role("button", name="Mark as unread").click()
    expect(unread_rows(page)).to_have_count(5)
    expect(find_pane(page).get_by_role("button", name="Mark as read")).to_be_focused()
    page.keyboard.press("j")
    expect_shown(page, "Number 2")
    page.get_by_role("link", name="Select page").click()
    page.locator(".notifications-toolbar").get_by_role("button", name="Done", exact=True).click()
    expect(find_pane(page)).to_be_hidden()


@pytest.mark.nightly
def test_what_changes_and_what_cannot_be_loaded(site_server, inbox):
    page = inbox
    click_beside(page, "Number 2")
    expect(find_pane(page).get_by_role("button", name="Mark as unread")).to_be_visible()
    site_server.python(CHANGE)
    expect(find_pane(page).get_by_role("button", name="Mark as read")).to_be_visible()
    page.route("**/?part=pane", lambda route: route.fulfill(status=204))
    page.keyboard.press("j")
    failure = find_pane(page).get_by_role("alert")
    expect(failure).to_contain_text("The notification could not be loaded.")
    assert find_violations(page) == []
    page.unroute_all()
    failure.get_by_role("button", name="Try again").click()
    expect_shown(page, "Number 1")
    expect(failure).to_be_hidden()
    page.route("**/?part=pane", lambda route: route.fulfill(status=204))
    page.keyboard.press("k")
    expect(failure).to_be_visible()
    page.unroute_all()
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(failure).to_be_hidden()
    expect_shown(page, "Number 2")
    page.keyboard.press("j")
    expect_shown(page, "Number 1")
    # The row leaves the list in the moment of the click.
    find_pane(page).get_by_role("button", name="Done").evaluate(
        "(button) => { document.querySelector('li[aria-current]').remove(); button.click() }"
    )
    expect(message(page)).to_contain_text("1 moved to Done.")
    expect(page.get_by_role("link", name="Inbox 4", exact=True)).to_be_visible()


@pytest.mark.nightly
def test_a_question_is_answered_in_it(site_server, page):
    """Without leaving the inbox; it shows then how its job has ended."""
    site_server.python(ASK)
    wait_for_keys(visit(page, site_server.url, "/notifications/"))
    page.evaluate("window.isSamePage = true")
    expect_shown(page, "Ship?")
    pane = find_pane(page)
    expect(pane.get_by_role("button", name="Cancel job")).to_be_visible()
    pane.get_by_role("button", name="Ship", exact=True).click()
    expect(pane).to_contain_text("answered “Ship”")
    expect(pane.locator(".notifications-state")).to_contain_text("Finished")
    ends = "SELECT read_at IS NULL FROM notifications_notification WHERE key LIKE 'job:%'"
    wait_until(lambda: site_server.rows(ends) == [(0,)], what="the end that is shown to be read")
    expect(page.locator(".notifications-news")).to_have_count(0)
    assert find_violations(page) == []
    assert page.evaluate("window.isSamePage")


@pytest.mark.nightly
def test_the_job_is_cancelled_in_it(site_server, page):
    """By the form of its page, which does not leave the inbox."""
    site_server.python(ASK)
    wait_for_keys(visit(page, site_server.url, "/notifications/"))
    page.evaluate("window.isSamePage = true")
    find_pane(page).get_by_role("button", name="Cancel job").click()
    expect(find_pane(page).locator(".notifications-state")).to_contain_text("Cancelled by you")
    expect(find_pane(page).get_by_role("button", name="Try again")).to_be_visible()
    assert page.evaluate("window.isSamePage")


def test_a_form_of_the_job_that_is_not_done(site_server, new_page):
    """The list says why, and the job goes on; signed out in another tab, the page says that."""
    site_server.python(ASK)
    page = new_page(errors=False)
    wait_for_keys(visit(page, site_server.url, "/notifications/"))
    cancel = find_pane(page).get_by_role("button", name="Cancel job")
    problem = {"title": "No", "detail": "Too many at once."}
    for answer, text in (
        ({"status": 403, "body": "<p>No", "content_type": "text/html"}, "Not done. The server answered 403."),
        ({"status": 409, "json": problem}, "Too many at once."),
        ({"status": 500, "body": "<p>No", "content_type": "text/html"}, "Not done. The server answered 500."),
        (None, "Not sent. Can't reach the server. Try again."),
    ):
        answer_requests(page, "**/cancel/?*", answer)
        cancel.click()
        expect(message(page)).to_have_text(text)
    page.unroute_all()
    page.context.clear_cookies()
    cancel.click()
    expect(page.locator("notifications-inbox")).to_contain_text("You are signed out.")
    assert site_server.rows("SELECT state FROM notifications_job") == [("waiting",)]


def test_a_narrow_window_has_none(inbox):
    """Or page. Then the whole row is the link, and nothing is loaded for the pane."""
    page = inbox
    expect_shown(page, "Number 5")
    for width in ("48rem", ""):  # Of the layout of a project.
        page.evaluate("(width) => { document.querySelector('main').style.maxWidth = width; }", width)
        page.evaluate("dispatchEvent(new Event('resize'))")
        expect(find_pane(page)).to_be_visible(visible=not width)
    page.set_viewport_size({"width": 1090, "height": 800})
    expect(find_pane(page)).to_be_hidden()
    expect(page.locator("li[aria-current]")).to_have_count(0)
    before = len(page.loads)
    page.keyboard.press("j")
    page.wait_for_timeout(300)
    assert len(page.loads) == before
    click_beside(page, "Number 4")
    page.wait_for_url("**/check/")


@pytest.mark.nightly
def test_a_title_that_leads_to_no_other_page(site_server, new_page):
    """It shows the notification beside the list, with its job; in a narrow window it leads to the page of its own.

    A job that is tried again has its new end in the place of the one before, which is not offered as new.
    """
    site_server.python(
        "from django.contrib.auth import get_user_model\nfrom notifications.api import notify\n"
        "from tests.jobs import tasks\nuser = get_user_model().objects.get(username='demo')\n"
        "notify(user, 'Welcome', body='All of it.')\ntasks.fail.using(owner=user, title='Send').enqueue()"
    )
    page = new_page(viewport={"width": 1280, "height": 800})
    wait_for_keys(visit(page, site_server.url, "/notifications/"))
    page.get_by_role("link", name="Welcome", exact=True).click()
    expect_shown(page, "Welcome")
    expect(row(page, "Welcome")).not_to_have_attribute("data-unread", "")
    expect(row(page, "Send")).to_be_visible()
    page.reload()  # The first row is shown, without having been read.
    retry = find_pane(page).get_by_role("button", name="Try again")
    expect(retry).to_be_visible()
    expect(find_pane(page).locator(".notifications-outcome")).to_have_css("margin-bottom", "16px")
    expect(row(page, "Send")).to_have_attribute("data-unread", "")
    before = [each.get_attribute("data-id") for each in rows(page).all()]
    retry.click()
    shown = page.locator("notifications-inbox li[aria-current=true]")
    expect(shown).to_contain_text("Send")
    expect(shown).not_to_have_attribute("data-id", before[0])  # It has failed again.
    expect(shown).not_to_have_attribute("data-unread", "")
    now = [each.get_attribute("data-id") for each in rows(page).all()]
    assert now[1:] == before[1:]
    expect(find_pane(page).locator(f"[name=one][value='archive.{now[0]}']")).to_be_visible()
    expect(retry).to_be_visible()
    site_server.python(CREATE.format(count=1))
    expect(page.locator(".notifications-news")).to_have_text("1 new")
    state = "SELECT read_at IS NULL, archived_at IS NULL FROM notifications_notification"
    ends = f"{state} WHERE title = 'Send' ORDER BY id"
    wait_until(
        lambda: site_server.rows(ends) == [(0, 0), (0, 1)],
        what="the older end to be done, the other one read",
    )
    expect(find_pane(page).get_by_role("button", name="Done")).to_be_visible()
    page.set_viewport_size({"width": 380, "height": 800})
    page.get_by_role("link", name="Welcome", exact=True).click()
    expect(page.get_by_role("heading", level=1, name="Welcome")).to_be_visible()
