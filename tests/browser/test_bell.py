"""The bell: unread count, list, marking as read, keyboard, and several windows."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.parts import (
    PAGE_TIMEOUT_MS,
    create_report,
    expect_unread,
    find_bell,
    find_toasts,
    open_bell,
    read_stored_titles,
    visit,
    wait_for_state,
    wait_until_live,
)
from tests.support.browser import post_form, sign_in, sign_in_over_http
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

#: The number of places where the icon of the bell is with counts of different lengths, and without one.
LEFTS_BY_COUNT = """() => new Set(["", "1", "99+"].map((text) => {
    const badge = document.querySelector("notifications-bell .notifications-count");
    const { textContent, hidden } = badge;
    Object.assign(badge, { textContent: text, hidden: !text });
    const { left } = document.querySelector("notifications-bell .notifications-icon").getBoundingClientRect();
    Object.assign(badge, { textContent, hidden });
    return left;
})).size"""

#: How much of the icon of the bell its count covers.
FIND_COVERED = """() => {
    const [icon, count] = ["icon", "count"]
        .map((part) => document.querySelector(`notifications-bell .notifications-${part}`).getBoundingClientRect());
    return (icon.right - count.left) * (count.bottom - icon.top) / icon.width / icon.height;
}"""


@pytest.mark.nightly
def test_without_javascript_the_bell_is_a_link_with_the_count(site_server, new_page):
    """The HTML also has the regions for toasts. A form of the inbox marks all notifications as read."""
    site_server.manage("notify", "demo", "Hello", "--url", "/check/")
    plain = new_page(java_script_enabled=False)
    plain.goto(f"{site_server.url}/accounts/login/")
    plain.locator("input[name=username]").fill("demo")
    plain.locator("input[name=password]").fill("demo")
    plain.locator("input[name=password]").press("Enter")
    plain.goto(f"{site_server.url}/reports/")
    link = plain.locator("notifications-bell a")
    expect(link).to_have_text(re.compile("Notifications.*1"))
    expect(plain.locator("notifications-toasts [role=status]")).to_have_count(1)
    expect(plain.locator("notifications-toasts [role=alert]")).to_have_count(1)
    link.click()
    expect(plain.get_by_role("heading", name="Notifications")).to_be_visible()
    plain.get_by_role("button", name="Mark all as read").click()
    expect(plain.get_by_role("button", name="Mark all as read")).to_have_count(0)
    expect(plain.locator("notifications-bell a")).not_to_contain_text("1")


def test_keyboard(site_server, page):
    """Enter opens the list, Tab moves into it, and Escape closes it and returns the focus."""
    site_server.manage("notify", "demo", "Hello", "--url", "/check/")
    visit(page, site_server.url, "/reports/")
    expect_unread(page, 1)
    assert page.evaluate(LEFTS_BY_COUNT) == 1  # No count moves the bell.
    assert page.evaluate(FIND_COVERED) < 0.2
    page.keyboard.press("Escape")  # dismisses the toast, if there is one
    find_bell(page).focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Notifications")
    expect(dialog.get_by_role("link", name="Hello")).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(dialog.get_by_role("link", name="Hello")).to_be_focused()
    find_bell(page).focus()
    expect(find_bell(page)).to_have_attribute("popovertarget", "")
    for name in ("Inbox", "Unread", "Questions", "Mark all as read"):
        page.keyboard.press("Tab")
        expect(dialog.get_by_role("button", name=name)).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(find_bell(page)).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(5):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/check/$"))
    expect_unread(page, 0)


@pytest.mark.nightly
def test_what_happens_before_the_panel_is_loaded_is_not_lost(site_server, new_page):
    """A toast is shown on the next page. A press opens the panel once it is there, or leads to the inbox."""
    page = new_page(errors=False)
    held = []
    page.route("**/bell_panel.js", lambda route: held.append(route))
    visit(page, site_server.url, "/reports/")
    assert not held
    site_server.manage("notify", "demo", "Hello")
    expect_unread(page, 1)
    wait_until(lambda: page.evaluate("1") and held, what="the request for the panel")
    page.goto(f"{site_server.url}/check/")
    wait_until(lambda: page.evaluate("1") and len(held) == 2, what="the request of the second page")
    held[1].continue_()
    expect(find_toasts(page)).to_contain_text("Hello")
    page.goto(f"{site_server.url}/reports/")
    wait_until_live(page)
    find_bell(page).focus()
    page.keyboard.press("Enter")
    expect(find_bell(page)).to_have_attribute("aria-busy", "true")
    wait_until(lambda: page.evaluate("1") and len(held) == 3, what="the request of the third page")
    held[2].continue_()
    dialog = page.get_by_role("dialog", name="Notifications")
    expect(dialog.get_by_role("link", name="Hello")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    page.goto(f"{site_server.url}/check/")
    wait_until_live(page)
    find_bell(page).click()
    wait_until(lambda: page.evaluate("1") and len(held) == 4, what="the request of the last page")
    held[3].abort()
    expect(page.get_by_role("heading", name="Notifications")).to_be_visible()


@pytest.mark.smoke
def test_marking_updates_all_windows_and_new_items_do_not_move_the_list(site_server, new_page):
    """A notification that arrives while the list is open is offered by a button."""
    for title in ("First", "Second"):
        site_server.manage("notify", "demo", title, "--url", "/check/")
    one, two = new_page(), new_page()
    visit(one, site_server.url, "/reports/")
    visit(two, site_server.url, "/reports/")
    expect_unread(one, 2)
    open_bell(two).get_by_role("link", name="First").click()
    two.wait_for_url(re.compile("/check/$"))
    expect_unread(one, 1)
    wait_until_live(two)
    items = open_bell(two).get_by_role("listitem")
    expect(items).to_have_count(2)
    expect(items.nth(0)).to_contain_text("Unread")
    expect(items.nth(1)).not_to_contain_text("Unread")
    site_server.manage("notify", "demo", "Third")
    expect_unread(two, 2)
    expect(items).to_have_count(2)
    two.get_by_role("button", name="1 new", exact=True).click()
    expect(items).to_have_count(3)
    expect(items.nth(0)).to_contain_text("Third")
    two.get_by_role("button", name="Mark all as read").click()
    expect_unread(two, 0)
    expect_unread(one, 0)
    expect(items.nth(0)).not_to_contain_text("Unread")


CREATE_TEN = """
from django.contrib.auth import get_user_model
from notifications.api import notify
user = get_user_model().objects.get(username='demo')
for n in range(1, 11): notify(user, f'Number {n}', url='/check/')
"""


def test_rows_are_read_and_done_in_the_bell(site_server, page):
    """What is done stays in its place until another tab is chosen. The tab of what is unread lists nothing else."""
    site_server.python(CREATE_TEN)
    visit(page, site_server.url, "/reports/")
    dialog = open_bell(page)
    items = dialog.get_by_role("listitem")
    expect(items).to_have_count(8)
    expect(items.last).to_contain_text("Number 3")
    before = [item.bounding_box() for item in items.all()]
    dialog.get_by_role("button", name="Done: Number 10").focus()
    page.keyboard.press("Enter")
    expect(items.first.locator(".notifications-done")).to_have_text("1 moved to Done.Undo")
    expect(dialog.get_by_role("link", name="Number 10")).to_have_count(0)
    expect(dialog.get_by_role("button", name="Undo: Number 10")).to_be_focused()
    assert [item.bounding_box() for item in items.all()] == before
    items.nth(1).hover()
    dialog.get_by_role("button", name="Mark as read: Number 9").click()
    expect(items.nth(1)).not_to_contain_text("Unread")
    expect_unread(page, 8)
    dialog.get_by_role("button", name="Unread", exact=True).click()
    expect(items.first).to_contain_text("Number 8")
    expect(items).to_have_count(8)


@pytest.mark.nightly
def test_what_is_done_in_the_bell_is_undone_in_its_place(site_server, page):
    """A list with a group is rendered again meanwhile. What was undone stays where it was, with its mark."""
    site_server.python(f"{CREATE_TEN}for n in (11, 12): notify(user, f'Number {{n}}', group='Last')")
    visit(page, site_server.url, "/reports/")
    dialog = open_bell(page)
    items = dialog.get_by_role("listitem")
    expect(items).to_have_count(8)
    before = items.nth(2).bounding_box()
    items.nth(2).hover()
    with page.expect_response("**grouped=1&background=1"):
        dialog.get_by_role("button", name="Done: Number 9").click()
    undo = dialog.get_by_role("button", name="Undo: Number 9")
    expect_unread(page, 11)
    page.evaluate("() => new Promise((resolve) => setTimeout(resolve, 100))")
    assert items.nth(2).bounding_box() == before
    expect(items).to_have_count(8)
    undo.focus()
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("link", name="Number 9")).to_be_focused()
    expect(undo).to_have_count(0)
    expect_unread(page, 12)
    expect(items.nth(2)).to_contain_text("Unread: Number 9")
    assert items.nth(2).bounding_box() == before
    dialog.get_by_role("button", name="Done: Number 9").click()
    expect(undo).to_be_visible()
    page.keyboard.press("Escape")
    open_bell(page)
    expect(items.nth(2)).to_contain_text("Number 8")


def test_opening_the_bell_dismisses_the_toasts(site_server, page):
    """Its list has what they show, errors too, which would stay."""
    visit(page, site_server.url, "/reports/")
    site_server.manage("notify", "demo", "First", "--level", "error")
    expect(find_toasts(page)).to_have_count(1)
    dialog = open_bell(page)
    expect(find_toasts(page)).to_have_count(0)
    expect(dialog.get_by_role("link", name="First")).to_be_visible()
    expect_unread(page, 1)


def test_a_list_that_cannot_be_loaded_offers_a_retry(site_server, new_page):
    """After a failed request the list shows an error and a button, which loads it."""
    site_server.manage("notify", "demo", "Hello")
    page = new_page(errors=False)
    visit(page, site_server.url, "/reports/")
    page.route("**/api/notifications/**", lambda route: route.abort())
    dialog = open_bell(page)
    expect(dialog.get_by_text("could not be loaded")).to_be_visible()
    page.unroute("**/api/notifications/**")
    dialog.get_by_role("button", name="Try again").click()
    expect(dialog.get_by_role("link", name="Hello")).to_be_visible()
    expect(dialog.get_by_text("could not be loaded")).to_be_hidden()


def test_a_hidden_tab_counts_in_its_title(site_server, page):
    """The count is removed when the tab is visible. A title that the page sets meanwhile is kept."""
    visit(page, site_server.url, "/reports/")
    title = page.title()
    set_visibility(page, "hidden")
    for text in ("One", "Two"):
        site_server.manage("notify", "demo", text)
    page.wait_for_function("() => document.title.startsWith('(2) ')")
    assert page.title() == f"(2) {title}"
    page.evaluate("document.title = 'Changed'")
    site_server.manage("notify", "demo", "Three")
    page.wait_for_function("() => document.title === '(3) Changed'")
    set_visibility(page, "visible")
    assert page.title() == "Changed"


def test_an_outage_is_shown_after_5_seconds(site_server, proxy, new_page):
    """The list shows it until the client is connected again, once, also where it could not be loaded."""
    page = new_page(errors=False)
    visit(page, proxy.url, "/reports/")
    dialog = open_bell(page)
    expect(
        dialog.get_by_text("When a job of yours finishes or asks you something, you'll see it here.")
    ).to_be_visible()
    proxy.cut()
    page.wait_for_function("async () => (await notifications.ready).client.state === 'waiting'")
    status, note = (dialog.locator(f".notifications-{part}") for part in ("status", "note"))
    expect(status).to_be_hidden()
    expect(status).to_contain_text("Can't reach the server")
    expect(status).to_be_visible()
    dialog.get_by_role("button", name="Unread").click()
    expect(note).to_have_text("The list could not be loaded. Can't reach the server.")
    expect(status).to_be_hidden()
    proxy.restore()
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(status).to_be_empty()
    expect(note).to_have_text("Nothing is unread.")
    expect(dialog.get_by_role("button", name="Try again")).to_be_hidden()


def test_signing_out_in_one_tab_clears_the_others(site_server, new_page):
    """Another tab of the same browser drops its notifications, also those that it is about to receive."""
    site_server.manage("notify", "demo", "Secret")
    page = new_page(errors=False)
    visit(page, site_server.url, "/reports/")
    with page.expect_response("**/api/notifications/**grouped**") as response:
        expect(open_bell(page).get_by_role("link", name="Secret")).to_be_visible()
    held = []
    page.route("**/api/notifications/**", lambda route: held.append(route))
    for _ in range(2):
        page.get_by_role("button", name="Unread", exact=True).click()
    wait_until(lambda: page.evaluate("1") and len(held) == 2, what="the requests for the list")
    other = page.context.new_page()
    other.goto(f"{site_server.url}/reports/")
    other.get_by_role("button", name="Sign out").click()
    other.wait_for_url(re.compile("/accounts/login/"))
    expect(page.get_by_text("You are signed out")).to_be_visible()
    held[0].abort()
    held[1].fulfill(response=response.value)
    page.wait_for_timeout(300)
    expect(page.get_by_text("You are signed out")).to_be_visible()
    expect(page.locator(".notifications-note")).to_be_hidden()
    expect(page.get_by_text("Secret")).to_have_count(0)
    assert page.evaluate("notifications.ready.then(({ client }) => client.stream.notifications.size)") == 0
    expect(find_bell(page, 0)).to_be_visible()


@pytest.mark.nightly_names("*[focus]")
@pytest.mark.parametrize("trigger", ["another tab", "focus"])
def test_a_tab_reconnects_when_its_user_signs_in_in_another_tab(site_server, new_page, trigger):
    """It does so without a reload: immediately if the other tab connects, otherwise on focus."""
    page = new_page()
    visit(page, site_server.url, "/reports/")
    page.evaluate("window.isFirstLoad = true")
    other = page.context.new_page()
    other.goto(f"{site_server.url}/check/")
    wait_until_live(other)
    other.get_by_role("button", name="Sign out").click()
    wait_for_state(page, "signed_out")
    if trigger == "another tab":
        sign_in(other, site_server.url)
    else:
        sign_in_over_http(page.context, site_server.url)
        page.evaluate("dispatchEvent(new Event('focus'))")
    wait_until_live(page)
    site_server.manage("notify", "demo", "After the sign-in")
    expect_unread(page, 1)
    expect(open_bell(page).get_by_role("link", name="After the sign-in")).to_be_visible()
    assert page.evaluate("window.isFirstLoad")


def test_a_job_that_ended_while_the_page_was_signed_out_is_shown(site_server, page):
    """The page asks for nothing but the sign-in in its bell, and reads the job after its user has signed in again."""
    sign_in(page, site_server.url)
    create_report(page, site_server.url, site_server.held_urls(1), "Slow")
    wait_until_live(page)
    page.context.request.get(f"{site_server.url}/accounts/login/")
    post_form(page.context, f"{site_server.url}/accounts/logout/")
    wait_for_state(page, "signed_out")
    with page.expect_response("**/accounts/login/**"):
        page.evaluate("document.dispatchEvent(new Event('notifications:job-progress'))")
    site_server.release()
    wait_until(lambda: read_stored_titles(site_server) == ["Slow finished"], what="the end of the job")
    sign_in_over_http(page.context, site_server.url)
    # Later, because it may load the page again at once.
    page.evaluate("setTimeout(() => dispatchEvent(new Event('focus')))")
    expect(page.get_by_role("heading", name="1 of 1 passed")).to_be_visible()


def test_one_socket_for_all_tabs_of_a_browser(site_server, new_page):
    """The second tab receives all frames without a socket, and connects when the first one is closed."""
    first = new_page()
    sockets = {"first": [], "second": []}
    visit(first, site_server.url, "/reports/")
    first.on("websocket", lambda socket: sockets["first"].append(socket))
    first.reload()
    wait_until_live(first)
    second = first.context.new_page()
    second.on("websocket", lambda socket: sockets["second"].append(socket))
    second.goto(f"{site_server.url}/check/")
    wait_until_live(second)
    site_server.manage("notify", "demo", "To both")
    expect_unread(first, 1)
    expect_unread(second, 1)
    assert (len(sockets["first"]), len(sockets["second"])) == (1, 0)
    first.close()
    second.wait_for_function("async () => (await notifications.ready).client.state === 'live'")
    site_server.manage("notify", "demo", "To the remaining tab")
    expect_unread(second, 2)
    assert len(sockets["second"]) == 1


def set_visibility(page, state):
    page.evaluate(
        """(state) => {
            Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        state,
    )


@pytest.mark.nightly
def test_more_than_1000_are_marked_as_read(site_server, page):
    """The server marks 1,000 per request; the client sends requests until all are marked."""
    site_server.python(
        "from django.contrib.auth import get_user_model\n"
        "from django.db import transaction\n"
        "from notifications.api import notify\n"
        "user = get_user_model().objects.get(username='demo')\n"
        "with transaction.atomic():\n"
        "    for n in range(1001): notify(user, f'Number {n}')"
    )
    visit(page, site_server.url, "/reports/")
    open_bell(page)
    expect(page.locator(".notifications-panel li")).to_have_count(8)
    page.get_by_role("button", name="Mark all as read").click()
    expect_unread(page, 0)


def test_an_open_page_shows_and_marks_nothing_of_a_user_who_signs_in_later(site_server, proxy, new_page):
    """During an outage of the connection, another user signs in in the same browser."""
    site = site_server
    page, other_page = new_page(errors=False), new_page()
    visit(page, proxy.url, "/check/")
    visit(other_page, site.url, "/check/", username="other")
    proxy.cut()
    page.context.clear_cookies()
    page.context.add_cookies(other_page.context.cookies())
    site.manage("notify", "other", "For the other user")
    proxy.restore()
    page.evaluate("dispatchEvent(new Event('online'))")
    dialog = open_bell(page)
    expect(dialog.get_by_role("status")).to_contain_text("You are signed out", timeout=PAGE_TIMEOUT_MS)
    expect(dialog.get_by_role("link", name="For the other user")).to_have_count(0)
    expect_unread(other_page, 1)
