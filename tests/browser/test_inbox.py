"""The inbox in a browser: changes in place with undo, keyboard shortcuts, actions, sign-out, and without JavaScript."""

import re
import signal

import pytest
from playwright.sync_api import expect

from tests.browser.parts import expect_unread, in_each_browser, open_bell, visit, wait_until_live
from tests.browser.test_touch import PHONE
from tests.support.axe import find_violations
from tests.support.browser import sign_in
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

CREATE = """
from django.contrib.auth import get_user_model
from notifications.api import notify
user = get_user_model().objects.get(username="demo")
for n in range(1, {count} + 1): notify(user, f"Number {{n}}", url="/check/", category="reports" if n % 2 else "")
"""


#: It is the oldest one, and a question.
ASK_NUMBER_1 = """
from uuid import uuid4
from notifications.models import Notification
Notification.objects.filter(title="Number 1").update(open_question=uuid4())
"""


@pytest.fixture
def inbox_page(site_server, page):
    """Return a page with the inbox of a user with five notifications, Number 5 first."""
    site_server.python(CREATE.format(count=5))
    return wait_for_keys(visit(page, site_server.url, "/notifications/"))


def wait_for_keys(page):
    """Wait until keys act: the script of the inbox may be loaded after the page is connected."""
    page.locator("[data-shortcuts]").wait_for()
    return page


def rows(page):
    return page.locator("notifications-inbox li[data-id]:visible")


def row(page, title):
    return rows(page).filter(has=page.get_by_role("link", name=title, exact=True))


def unread_rows(page):
    return page.locator("notifications-inbox li[data-unread]:visible")


def current_view(page):
    return page.locator(".notifications-views [aria-current]")


def message(page):
    return page.locator(".notifications-floating")


@pytest.mark.smoke
def test_done_and_undo_in_place(inbox_page):
    """The row leaves the list without a new page, and comes back; its category is muted, and no longer."""
    page = inbox_page
    page.evaluate("window.isSamePage = true")
    row(page, "Number 3").hover()
    done, title = (
        page.get_by_role("button", name="Done: Number 3"),
        row(page, "Number 3").get_by_role("link").first,
    )
    middles = [box["y"] + box["height"] / 2 for box in (done.bounding_box(), title.bounding_box())]
    assert abs(middles[0] - middles[1]) <= 2, "the verbs of a row without a body are beside its title"
    done.click()
    expect(rows(page)).to_have_count(4)
    expect(message(page)).to_contain_text("1 moved to Done.")
    expect_unread(page, 4)
    message(page).get_by_role("button", name="Undo").click()
    expect(rows(page)).to_have_count(5)
    expect(message(page)).to_contain_text("Undone.")
    expect_unread(page, 5)
    row(page, "Number 3").hover()
    row(page, "Number 3").get_by_role("button", name="Mute").click()
    expect(message(page)).to_contain_text("“Reports” is muted.")
    message(page).get_by_role("button", name="Undo").click()
    expect(message(page)).to_have_text("Undone.")
    assert page.evaluate("window.isSamePage")


def test_range_and_selection(inbox_page):
    """A click with Shift selects the rows between; buttons change them together, and fit one that is read elsewhere."""
    page = inbox_page
    page.get_by_role("checkbox", name="Select: Number 5", exact=True).check()
    page.get_by_role("checkbox", name="Select: Number 2", exact=True).click(modifiers=["Shift"])
    expect(page.locator("notifications-inbox li :checked")).to_have_count(4)
    toolbar = page.locator(".notifications-toolbar")
    toolbar.get_by_role("button", name="Mark as read", exact=True).click()
    expect(unread_rows(page)).to_have_count(1)
    expect(message(page)).to_contain_text("4 marked as read.")
    message(page).get_by_role("button", name="Undo").click()
    expect(unread_rows(page)).to_have_count(5)
    row(page, "Number 5").get_by_role("checkbox").check()
    expect(toolbar.get_by_role("button", name="Mark as unread")).to_be_hidden()
    toasts = page.locator("notifications-toasts")
    expect(toasts).to_have_css("top", f"{page.viewport_size['height'] - 96}px")  # Above the bar.
    other = page.context.new_page()
    other.goto(page.url)
    wait_for_keys(other)
    row(other, "Number 5").hover()
    other.get_by_role("button", name="Mark as read: Number 5", exact=True).click()
    expect(toolbar.get_by_role("button", name="Mark as unread")).to_be_visible()
    expect(toolbar.get_by_role("button", name="Mark as read", exact=True)).to_be_hidden()


def test_the_page_is_selected_and_cleared_by_links(inbox_page):
    """Also rows that were checked by hand, and after a change in place, which unchecks all."""
    page = inbox_page
    select = page.get_by_role("link", name="Select page")
    clear = page.get_by_role("link", name="Clear selection")
    checked = page.locator('[name="id"]:checked')
    expect(clear).to_be_hidden()
    for _ in range(2):
        row(page, "Number 3").get_by_role("checkbox").check()
        clear.click()
        expect(checked).to_have_count(0)
    row(page, "Number 3").get_by_role("checkbox").check()
    expect(clear).to_have_text("1 selected")
    select.click()
    expect(checked).to_have_count(5)
    expect(clear).to_have_text("5 selected")
    clear.click()
    expect(checked).to_have_count(0)
    select.click()
    page.locator(".notifications-toolbar").get_by_role("button", name="Mark as read", exact=True).click()
    expect(unread_rows(page)).to_have_count(0)
    expect(checked).to_have_count(0)
    expect(clear).to_be_hidden()
    select.click()
    expect(checked).to_have_count(5)


@in_each_browser
def test_keyboard(inbox_page):
    """Rows are moved between, selected, read, made unread and done without a mouse."""
    page = inbox_page
    for key in ("j", "j", "j", "k"):
        page.keyboard.press(key)
    expect(row(page, "Number 4")).to_be_focused()
    page.keyboard.press("Shift+I")
    expect(unread_rows(page)).to_have_count(4)
    page.keyboard.press("u")
    expect(unread_rows(page)).to_have_count(5)
    page.keyboard.press("x")
    expect(page.get_by_role("checkbox", name="Select: Number 4", exact=True)).to_be_checked()
    page.keyboard.press("x")
    page.keyboard.press("e")
    expect(rows(page)).to_have_count(4)
    expect(page.get_by_role("link", name="Number 3", exact=True)).to_be_focused()
    expect(message(page)).to_contain_text("1 moved to Done.")
    page.keyboard.press("z")
    expect(page.get_by_role("link", name="Number 4", exact=True)).to_be_focused()
    page.keyboard.press("e")
    expect(rows(page)).to_have_count(4)
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox", name="Search")).to_be_focused()
    page.get_by_role("link", name="Number 3", exact=True).focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/check/$"))
    page.go_back()
    expect(row(page, "Number 2")).to_be_visible()
    expect(unread_rows(page)).to_have_count(3)


def test_the_keyboard_leaves_the_search_and_a_selection(inbox_page):
    """Escape clears the text, then leads to the list, where it clears a selection. An arrow leads to what is found."""
    page = inbox_page
    for key in ("/", "Escape"):
        page.keyboard.press(key)
    expect(row(page, "Number 5")).to_be_focused()
    for key in ("x", "j", "x"):
        page.keyboard.press(key)
    checked = page.locator("[name=id]:checked")
    expect(checked).to_have_count(2)
    page.keyboard.press("Escape")
    expect(checked).to_have_count(0)
    expect(row(page, "Number 4")).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.type("Number 2")
    expect(rows(page)).to_have_count(1)
    page.keyboard.press("ArrowDown")
    expect(row(page, "Number 2")).to_be_focused()


def test_a_change_is_undone_before_its_response(inbox_page):
    """Not the one before, whose message is still shown."""
    page, sent = inbox_page, []
    page.keyboard.press("j")
    page.keyboard.press("Shift+I")
    expect(message(page)).to_contain_text("1 marked as read.")
    page.route("**/notifications/archive/**", lambda route: sent.append(route))
    for key in ("e", "z"):
        page.keyboard.press(key)
    wait_until(lambda: page.wait_for_timeout(20) or sent, what="the request")
    sent[0].continue_()
    expect(message(page)).to_contain_text("Undone.")
    expect(rows(page)).to_have_count(5)
    expect(unread_rows(page)).to_have_count(4)


def test_a_change_that_fails_is_not_tried_again_by_the_key_that_undoes(site_server, new_page):
    """What the message offers then would change again what the user wanted back."""
    page, sent = new_page(errors=False), []
    site_server.python(CREATE.format(count=2))
    wait_for_keys(visit(page, site_server.url, "/notifications/"))
    page.route("**/notifications/archive/**", lambda route: sent.append(route))
    for key in ("j", "e", "z"):
        page.keyboard.press(key)
    wait_until(lambda: page.wait_for_timeout(20) or sent, what="the request")
    sent[0].abort()
    expect(message(page).get_by_role("button", name="Try again")).to_be_visible()
    page.wait_for_timeout(300)
    assert len(sent) == 1
    expect(rows(page)).to_have_count(2)


def test_changes_that_wait_are_sent_when_the_page_is_left(inbox_page, site_server):
    """The server is slow: the other changes wait for the first one, and all are shown already."""
    page, server = inbox_page, site_server.web.popen
    for key in ("j", "j"):
        page.keyboard.press(key)
    expect(row(page, "Number 4")).to_be_focused()
    page.wait_for_load_state("networkidle")
    server.send_signal(signal.SIGSTOP)
    try:
        for key in ("Shift+I", "k", "e", "e"):
            page.keyboard.press(key)
        expect(rows(page)).to_have_count(3)
        page.goto("about:blank")
    finally:
        server.send_signal(signal.SIGCONT)
    table = "notifications_notification"
    sql = f"SELECT title, read_at IS NOT NULL FROM {table} WHERE archived_at IS NOT NULL ORDER BY title"
    expected = [("Number 4", 1), ("Number 5", 0)]
    wait_until(lambda: site_server.rows(sql) == expected, what="the changes that waited")


def test_selection_during_a_request_is_kept(inbox_page):
    """The response to a change clears nothing that was selected since the request."""
    page, sent = inbox_page, []
    page.route("**/notifications/read/**", lambda route: sent.append(route))
    page.keyboard.press("j")
    page.keyboard.press("Shift+I")
    wait_until(lambda: page.wait_for_timeout(20) or sent, what="the request")
    page.keyboard.press("x")
    sent[0].continue_()
    expect(message(page)).to_contain_text("1 marked as read.")
    expect(page.get_by_role("checkbox", name="Select: Number 5", exact=True)).to_be_checked()


@pytest.mark.nightly
def test_rows_that_leave_are_replaced(site_server, page):
    """All of it done, and undone. Then the page selected and done: older rows take their place, until none is left."""
    site_server.python(CREATE.format(count=60))
    visit(page, site_server.url, "/notifications/")
    page.evaluate("window.isSamePage = true")
    expect(rows(page)).to_have_count(25)
    page.get_by_role("button", name="Move all to Done").click()
    assert rows(page).count() == 0, "before the server has answered"
    expect(message(page)).to_contain_text("60 moved to Done.")
    expect(page.locator("notifications-inbox").get_by_text("Your inbox is empty.")).to_be_visible()
    expect(page.get_by_role("link", name="Inbox", exact=True)).to_be_visible()
    message(page).get_by_role("button", name="Undo").click()
    expect(page.get_by_role("link", name="Inbox 60", exact=True)).to_be_visible()
    expect(rows(page)).to_have_count(25)
    for title, inbox_count, shown in (("Number 35", "35", 25), ("Number 10", "10", 10)):
        page.get_by_role("link", name="Select page").click()
        page.locator(".notifications-toolbar").get_by_role("button", name="Done", exact=True).click()
        expect(rows(page)).to_have_count(shown)
        expect(page.get_by_role("link", name=title, exact=True)).to_be_focused()
        expect(page.get_by_role("link", name=f"Inbox {inbox_count}", exact=True)).to_be_visible()
    assert page.locator("notifications-inbox .notifications-day:visible").count() == 1
    assert find_violations(page) == []
    message(page).get_by_role("button", name="Undo").click()
    expect(rows(page)).to_have_count(35)
    page.get_by_role("link", name="Select page").click()
    page.locator(".notifications-toolbar").get_by_role("button", name="Done", exact=True).click()
    expect(rows(page)).to_have_count(0)
    expect(page.locator("notifications-inbox").get_by_text("Your inbox is empty.")).to_be_visible()
    assert page.evaluate("window.isSamePage")


def test_what_is_read_leaves_the_view_unread(inbox_page):
    """And comes back by *Undo*, also all of it."""
    page = inbox_page
    page.get_by_role("link", name=re.compile("^Unread")).click()
    wait_for_keys(wait_until_live(page))
    for key in ("j", "j", "Shift+I"):
        page.keyboard.press(key)
    expect(rows(page)).to_have_count(4)
    expect(page.get_by_role("link", name="Number 3", exact=True)).to_be_focused()
    expect(page.get_by_role("link", name="Unread 4", exact=True)).to_be_visible()
    message(page).get_by_role("button", name="Undo").click()
    expect(rows(page)).to_have_count(5)
    page.evaluate("window.isSamePage = true")
    page.get_by_role("button", name="Mark all as read").click()
    expect(rows(page)).to_have_count(0)
    expect(message(page)).to_contain_text("5 marked as read.")
    message(page).get_by_role("button", name="Undo").click()
    expect(rows(page)).to_have_count(5)
    expect(unread_rows(page)).to_have_count(5)
    assert page.evaluate("window.isSamePage")


#: As after a slow frame: "not in view" and "in view" come together.
DELIVER_TWO_ENTRIES = """
const Native = IntersectionObserver;
globalThis.IntersectionObserver = class extends Native {
    constructor(callback, options) {
        const leave = (entry) => ({ isIntersecting: false, target: entry.target });
        super((entries) => callback(entries.flatMap((entry) => [leave(entry), entry])), options);
    }
};
"""


@pytest.mark.nightly
@pytest.mark.parametrize("view", ["inbox", "unread"])
def test_the_list_goes_on_and_back_returns_to_the_row(site_server, page, view):
    """Older rows are loaded at the end of the list; back from one of them has the focus where it was."""
    page.add_init_script(DELIVER_TWO_ENTRIES)
    site_server.python(CREATE.format(count=60) + ASK_NUMBER_1)
    visit(page, site_server.url, f"/notifications/?view={view}")
    for count in (51, 60):
        rows(page).last.scroll_into_view_if_needed()
        expect(rows(page)).to_have_count(count)
    expect(page.get_by_role("link", name="Load older")).to_have_count(0)
    row(page, "Number 8").get_by_role("link", name="Number 8", exact=True).press("Enter")
    page.wait_for_url(re.compile("/check/$"))
    page.go_back()
    title = "Number 8" if view == "inbox" else "Number 7"
    link = page.get_by_role("link", name=title, exact=True)
    expect(link).to_be_focused()
    expect(link).to_be_in_viewport()


def test_older_rows_by_the_link(site_server, page):
    """It says that they could not be loaded, and tries again."""
    site_server.python(CREATE.format(count=30))
    visit(page, site_server.url, "/notifications/")
    page.route("**/notifications/?after=*", lambda route: route.fulfill(status=204))
    link = page.get_by_role("link", name="Load older")
    link.focus()
    expect(message(page)).to_contain_text("The list could not be loaded.")
    expect(rows(page)).to_have_count(25)
    page.unroute_all()
    message(page).get_by_role("button", name="Try again").click()
    expect(rows(page)).to_have_count(30)
    expect(message(page)).to_be_empty()
    expect(page.get_by_role("link", name="Number 5", exact=True)).to_be_focused()


def test_what_was_not_saved_is_forgotten_when_the_server_is_back(site_server, proxy, new_page):
    """In the list and in the bell, which until then offer to try it again."""
    page = new_page(errors=False)
    site_server.python(CREATE.format(count=2))
    wait_for_keys(visit(page, proxy.url, "/notifications/"))
    dialog = open_bell(page)
    expect(dialog.get_by_role("listitem")).to_have_count(2)
    proxy.cut()
    dialog.get_by_role("button", name="Mark all as read").click()
    expect(dialog.get_by_text("Not saved. Can't reach the server.")).to_be_visible()
    expect(dialog.get_by_role("button", name="Try again")).to_be_visible()
    page.keyboard.press("Escape")
    row(page, "Number 2").hover()
    page.get_by_role("button", name="Move to Done: Number 2").click()
    expect(message(page)).to_contain_text("Not saved. Can't reach the server.")
    expect(message(page).get_by_role("button", name="Try again")).to_be_visible()
    expect(rows(page)).to_have_count(2)
    proxy.restore()
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(message(page)).to_be_empty()
    dialog = open_bell(page)
    expect(dialog.get_by_text("Not saved.")).to_be_hidden()
    dialog.get_by_role("button", name="Mark all as read").click()
    expect(unread_rows(page)).to_have_count(0)


@pytest.mark.nightly
def test_list_of_shortcuts_and_turning_them_off(inbox_page):
    """Keys do nothing in a field, nor when they are turned off, which the browser remembers."""
    page = inbox_page
    search = page.get_by_role("searchbox", name="Search")
    search.press_sequentially("e?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_hidden()
    expect(rows(page)).to_have_count(0)
    search.fill("")
    expect(rows(page)).to_have_count(5)
    page.get_by_role("button", name="Keyboard shortcuts").click()
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_be_visible()
    assert find_violations(page) == []
    dialog.get_by_role("checkbox", name="Use keyboard shortcuts").uncheck()
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()
    page.keyboard.press("j")
    expect(page.locator("notifications-inbox li:focus")).to_have_count(0)
    page.reload()
    page.get_by_role("button", name="Keyboard shortcuts").click()
    dialog.get_by_role("checkbox", name="Use keyboard shortcuts").check()
    dialog.get_by_role("button", name="Close").click()
    page.keyboard.press("?")
    expect(dialog).to_be_visible()
    assert len(rows(page).all()) == 5


@pytest.mark.nightly
def test_the_list_follows_the_search(inbox_page):
    """While one types and chooses, without a new page; the focus stays, and the URL leads to the same list."""
    page = inbox_page
    page.evaluate("window.isSamePage = true")
    search = page.get_by_role("searchbox", name="Search")
    search.press_sequentially("number 3")
    expect(rows(page)).to_have_count(1)
    expect(search).to_be_focused()
    expect(page).to_have_url(re.compile(r"\?q=number\+3$"))
    page.get_by_role("button", name="Done: Number 3").focus()
    page.keyboard.press("Enter")
    expect(message(page)).to_contain_text("1 moved to Done.")
    search.fill("")
    expect(rows(page)).to_have_count(4)
    page.get_by_role("button", name="Category").click()
    page.get_by_role("checkbox", name="Reports").check()
    expect(rows(page)).to_have_count(2)
    expect(page).to_have_url(re.compile(r"\?category=reports$"))
    assert page.evaluate("window.isSamePage")


def test_an_empty_list_is_saved_as_a_view(site_server, inbox_page):
    """What arrives is shown at once, as in another empty list, but not while the name of the view is typed."""
    page = inbox_page
    page.get_by_role("searchbox", name="Search").press_sequentially("number 8")
    expect(rows(page)).to_have_count(0)
    page.get_by_role("button", name="Save view").click()
    sheet = page.get_by_role("group", name="Save view")
    sheet.get_by_role("textbox", name="Name").press_sequentially("Eight")
    site_server.python(CREATE.format(count=7))
    expect(page.get_by_role("navigation", name="Views")).to_contain_text("Inbox 12")
    expect(sheet.get_by_role("textbox", name="Name")).to_have_value("Eight")
    sheet.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The view “Eight” is saved.")).to_be_visible()
    expect(current_view(page)).to_have_text("Eight")
    wait_for_keys(page)
    site_server.python(CREATE.format(count=8))
    expect(rows(page)).to_have_count(1)


def test_the_view_follows_the_search(inbox_page):
    """The link to a saved view is that of the page while its filters are chosen, and no longer."""
    page = inbox_page
    search = page.get_by_role("searchbox", name="Search")
    search.press_sequentially("number 3")
    page.get_by_role("button", name="Save view").click()
    page.get_by_role("textbox", name="Name").fill("Third")
    page.keyboard.press("Enter")
    expect(current_view(page)).to_have_text("Third")
    wait_for_keys(page)
    page.evaluate("window.isSamePage = true")
    search.fill("")
    expect(rows(page)).to_have_count(5)
    expect(current_view(page)).to_contain_text("Inbox")
    search.fill("number 3")
    expect(rows(page)).to_have_count(1)
    expect(current_view(page)).to_have_text("Third")
    assert page.evaluate("window.isSamePage")


#: By how much the content of an element is wider than the element.
EXCESS = "(element) => element.scrollWidth - element.clientWidth"


@pytest.mark.nightly_names("*[desktop]")
@pytest.mark.parametrize(
    "window", [{"viewport": {"width": 1280, "height": 800}}, PHONE], ids=["desktop", "phone"]
)
def test_the_first_row_is_near_the_top(site_server, new_page, window):
    """Below a heading. On a phone in German too, and on the first screen at a zoom of 200 %."""
    site_server.python(CREATE.format(count=5))
    site_server.python(ASK_NUMBER_1)
    site_server.manage(
        "notify", "demo", "A title of two lines, which has no body, so that its time is beside the first"
    )
    page = new_page(**window, locale="de")
    visit(page, site_server.url, "/notifications/")
    waiting = page.get_by_role("heading", name="Wartet auf Sie")
    part = ".notifications-search" if window is PHONE else ".notifications-toolbar"
    above = page.locator(part).bounding_box()
    assert waiting.bounding_box()["y"] - above["y"] - above["height"] >= 12
    expect(rows(page).first).to_contain_text("Number 1")
    if window is PHONE:
        expect(rows(page).first.locator(".notifications-menu")).to_be_hidden()
    first = rows(page).first.bounding_box()
    assert first["y"] <= (300 if window is PHONE else 240)
    assert first["height"] <= 64
    if window is not PHONE:
        row = rows(page).filter(has_text="two lines")
        title, time = [row.locator(f".notifications-{part}").bounding_box() for part in ("title", "time")]
        assert title["height"] > 40 and time["y"] == pytest.approx(title["y"], abs=1)
        site_server.manage("notify", "demo", "Filtered", "--level", "error")
        page.goto(f"{site_server.url}/notifications/?level=error")
        assert page.locator(".notifications-toolbar").bounding_box()["height"] <= 40, "two lines"
        words = page.locator("[popovertarget=notifications-view] > span")
        assert words.bounding_box()["width"] > 60 and words.evaluate(EXCESS) == 0
        assert rows(page).first.bounding_box()["y"] <= 240
        page.go_back()
    else:
        page.set_viewport_size({"width": 360, "height": 800})
        site_server.manage("notify", "demo", "Filtered", "--level", "error")
        expect(page.locator(".notifications-unfilter")).to_be_hidden()
        for filters in ("level=error", "q=filtered"):
            page.goto(f"{site_server.url}/notifications/?{filters}")
            expect(page.locator(".notifications-unfilter")).to_be_visible()
            assert rows(page).first.bounding_box()["y"] <= 300, filters
            bar = page.locator(".notifications-toolbar")
            assert bar.evaluate(EXCESS) == 0, f"a button is cut: {filters}"
            expect(bar.get_by_role("button", name="Ansicht speichern")).to_be_visible()
        page.locator(".notifications-unfilter").tap()
        page.wait_for_url(f"{site_server.url}/notifications/")
    header, heading = page.locator("header.site").bounding_box(), page.locator("h1").bounding_box()
    assert heading["y"] - header["y"] - header["height"] >= 8
    page.set_viewport_size({"width": 640, "height": 400})
    first = rows(page).first.bounding_box()
    assert first["y"] + first["height"] <= 400


def test_the_counts_of_the_views_follow(site_server, inbox_page):
    """What arrives, and what is changed in another place, without a new page."""
    page = inbox_page
    views = page.get_by_role("navigation", name="Views")
    expect(views).to_have_text(re.compile(r"Inbox 5\s*Unread 5\s*Done"))
    site_server.python(CREATE.format(count=2))
    expect(views).to_have_text(re.compile(r"Inbox 7\s*Unread 7\s*Done"))
    open_bell(page).get_by_role("button", name="Mark all as read").click()
    expect(views).to_have_text(re.compile(r"Inbox 7\s*Unread\s*Done"))


def test_changes_are_sent_in_their_order(inbox_page):
    """Also if the request of the first one takes longer than that of the next would."""
    page, sent = inbox_page, []
    page.add_init_script(
        """
        const send = fetch;
        window.fetch = async (url, options) => {
            if (String(url).includes("notifications/read/")) await new Promise((resolve) => setTimeout(resolve, 1000));
            return send(url, options);
        };
        """
    )
    page.reload()
    wait_for_keys(page)
    page.on("response", lambda response: "read/" in response.url and sent.append(response.url))
    page.keyboard.press("j")
    page.keyboard.press("Shift+I")
    page.keyboard.press("u")
    wait_until(lambda: page.wait_for_timeout(100) or len(sent) == 2, what="both changes")
    page.reload()
    expect(unread_rows(page)).to_have_count(5)


def test_keys_change_nothing_that_is_done(site_server, inbox_page):
    """The view Done shows no unread notifications, and has no key that moves one back."""
    page = inbox_page
    with page.expect_response(
        lambda response: response.request.method == "POST" and "/mark/" in response.url
    ):
        page.get_by_role("button", name="Move all to Done").click()
    page.get_by_role("link", name="Done", exact=True).click()
    wait_for_keys(wait_until_live(page))
    expect(rows(page)).to_have_count(5)
    posts = []
    page.on("request", lambda request: request.method == "POST" and posts.append(request.url))
    for key in ("j", "u", "e", "Shift+I", "j"):
        page.keyboard.press(key)
    expect(row(page, "Number 4")).to_be_focused()
    expect(rows(page)).to_have_count(5)
    expect(unread_rows(page)).to_have_count(0)
    assert [url for url in posts if "/seen/" not in url] == []


@pytest.mark.nightly_names("*[chromium]")
@in_each_browser
def test_signed_out_elsewhere(site_server, inbox_page):
    """The rows go, and a link leads to sign-in and back."""
    page = inbox_page
    other = page.context.new_page()
    other.goto(f"{site_server.url}/check/")
    other.get_by_role("button", name="Sign out").click()
    link = page.locator("notifications-inbox").get_by_role("link", name="Sign in")
    expect(link).to_be_visible()
    expect(rows(page)).to_have_count(0)
    expect(page.locator(".notifications-page")).not_to_contain_text("Number")
    expect(page.locator(".notifications-page")).not_to_contain_text("reports")
    assert find_violations(page) == []
    assert "next=%2Fnotifications%2F" in link.get_attribute("href")


@pytest.mark.nightly_names("*[1000]")
@pytest.mark.parametrize("width", [320, 1000])
def test_long_category_does_not_widen_the_page(site_server, page, width):
    """The name of a category without spaces is broken in the buttons that contain it."""
    category = "W" * 100
    site_server.python(
        "from django.contrib.auth import get_user_model; from notifications.api import notify; "
        f"notify(get_user_model().objects.get(username='demo'), 'Ready', category={category!r})"
    )
    page.set_viewport_size({"width": width, "height": 800})
    visit(page, site_server.url, f"/notifications/?category={category}")
    expect(page.get_by_role("button", name="Mute")).to_be_attached()
    expect(page.get_by_role("button", name="Mark these as read")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_all_of_several_categories_is_selected(site_server, page):
    """What is chosen shows below the list of categories; all that it has, on all pages, is done and undone.

    The key that closes the list of categories once cleared the selection, when it had waited for the module of keys.
    """
    site_server.python(CREATE.format(count=60))
    held = []
    page.route("**/shortcuts.js", lambda route: held.append(route))
    visit(page, site_server.url, "/notifications/")
    page.get_by_role("button", name="Category").click()
    page.get_by_role("checkbox", name="Reports").check()
    page.get_by_role("checkbox", name="Everything but these").check()
    expect(page.get_by_role("button", name="Not Reports")).to_be_visible()
    expect(page).to_have_url(re.compile(r"\?category=reports&except=1$"))
    expect(row(page, "Number 60")).to_be_visible()
    expect(row(page, "Number 59")).to_be_hidden()
    page.keyboard.press("Escape")
    page.get_by_role("checkbox", name="Select: Number 60").check()
    page.get_by_role("link", name="Select all 30").click()
    toolbar = page.locator(".notifications-toolbar")
    selected = toolbar.get_by_role("link", name="Clear selection")
    expect(selected).to_contain_text("30 selected")
    expect(toolbar.get_by_role("button", name="Snooze")).to_be_hidden()
    with page.expect_response("**/shortcuts.js"):
        held[0].continue_()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(selected).to_contain_text("30 selected")
    page.keyboard.press("e")
    expect(message(page)).to_contain_text("30 moved to Done.")
    expect(rows(page)).to_have_count(0)
    page.keyboard.press("z")
    expect(message(page)).to_contain_text("Undone.")
    expect(page.locator("notifications-inbox li[data-id]:visible").first).to_be_visible()
    page.get_by_role("checkbox", name="Select: Number 60").check()
    page.get_by_role("link", name="Select all 30").click()
    page.get_by_role("checkbox", name="Select: Number 58").uncheck()
    expect(toolbar.get_by_role("button", name="Snooze")).to_be_visible()


@pytest.mark.nightly
def test_everything_without_javascript(site_server, new_page):
    """Views, filters, selection, all, undo and muting are links and forms."""
    site_server.python(CREATE.format(count=5))
    page = new_page(java_script_enabled=False)
    page.goto(f"{site_server.url}/notifications/")
    page.locator("input[name=username]").fill("demo")
    page.locator("input[name=password]").fill("demo")
    page.locator("input[name=password]").press("Enter")
    page.get_by_role("button", name="Category").click()
    page.get_by_role("checkbox", name="Reports").check()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Apply").click()
    expect(rows(page)).to_have_count(3)
    page.get_by_role("button", name="Move these to Done").click()
    expect(page.get_by_text("3 moved to Done.")).to_be_visible()
    expect(rows(page)).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(rows(page)).to_have_count(3)
    page.get_by_role("checkbox", name="Select: Number 3", exact=True).check()
    toolbar = page.locator(".notifications-toolbar")
    expect(toolbar.get_by_role("button", name="Mark as read", exact=True)).to_be_visible()
    expect(toolbar.get_by_role("button", name="Mark as unread")).to_be_hidden()
    toolbar.get_by_role("button", name="Done", exact=True).click()
    expect(rows(page)).to_have_count(2)
    page.get_by_role("link", name="Done", exact=True).click()
    expect(rows(page)).to_have_count(1)
    row(page, "Number 3").hover()
    page.get_by_role("button", name="Move to inbox: Number 3").click()
    expect(rows(page)).to_have_count(0)
    page.get_by_role("link", name=re.compile("^Inbox")).click()
    expect(rows(page)).to_have_count(5)
    row(page, "Number 5").hover()
    row(page, "Number 5").get_by_role("button", name="Mute").click()
    expect(page.get_by_text("“Reports” is muted.")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Undone.")).to_be_visible()
    page.get_by_role("main").get_by_role("link", name="Preferences").click()
    bell = page.get_by_role("checkbox", name="In the bell: Reports")
    expect(bell).to_be_checked()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Your preferences are saved.")).to_be_visible()
    expect(bell).to_be_checked()


TOKEN = """
from django.contrib.auth import get_user_model
from notifications.contrib.deliveries.unsubscribing import make_token
print(make_token(get_user_model().objects.get(username="demo").pk, "reports"))
"""


def test_unsubscribing_signed_out(site_server, new_page):
    """The page of an e-mail's link, with its undo, is accessible and needs no JavaScript."""
    token = site_server.python(TOKEN).strip().splitlines()[-1]
    page = new_page(java_script_enabled=False)
    page.goto(f"{site_server.url}/notifications/unsubscribe/{token}/")
    page.get_by_role("button", name="Unsubscribe").click()
    expect(page.get_by_text("You get no more e-mails about “Reports”.")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("You get these e-mails again.")).to_be_visible()
    page.get_by_role("link", name="All preferences").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


@pytest.mark.nightly
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 380])
def test_no_problem_of_accessibility(site_server, new_page, scheme, width):
    """In each view, with rows and without; no page is wider than the window.

    tests/browser/test_layout_shift.py looks at most of them on a phone, in the dark.
    """
    site_server.python(CREATE.format(count=30))
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    sign_in(page, site_server.url)
    for path in (
        "",
        "?view=unread&q=Number&level=info",
        "?view=done",
        "?q=nothing",
        "?after=6",
        "preferences/",
    ):
        page.goto(f"{site_server.url}/notifications/{path}")
        assert find_violations(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.nightly
def test_no_problem_of_accessibility_with_a_selection_and_a_message(inbox_page):
    page = inbox_page
    page.get_by_role("checkbox", name="Select: Number 5", exact=True).check()
    assert find_violations(page) == []
    page.locator(".notifications-toolbar").get_by_role("button", name="Done", exact=True).click()
    expect(message(page)).to_contain_text("1 moved to Done.")
    assert find_violations(page) == []


def test_page_of_one_notification(inbox_page):
    """*Details* leads to it in a window without the reading pane; its verbs change the notification and return."""
    page = inbox_page
    page.set_viewport_size({"width": 1000, "height": 800})
    page.get_by_role("link", name="Details: Number 3").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Number 3")
    expect(page.locator(".notifications-history li")).to_contain_text(["Shown in the bell or the inbox"])
    assert find_violations(page) == []
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("link", name="Number 3", exact=True)).to_have_count(0)
