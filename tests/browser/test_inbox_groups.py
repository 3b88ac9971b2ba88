"""Groups of notifications in a browser: opened in place and by keyboard, moved to Done, and without JavaScript."""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.parts import expect_unread, expect_unseen, open_bell, visit
from tests.browser.test_inbox import message, row, rows, unread_rows, wait_for_keys
from tests.support.axe import find_violations
from tests.support.browser import sign_in
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

CREATE = """
from django.contrib.auth import get_user_model
from notifications.api import notify
user = get_user_model().objects.get(username="demo")
notify(user, "Report 12 is ready", url="/check/", level="success")
for n in range(1, 31):
    level = "error" if n == 29 else "success"
    notify(user, f"Import {n}", body=f"Rows of file {n}.", url="/check/", level=level, group="Imports")
notify(user, "Ada commented on Report 7", body="Please have a look.", actor="Ada Lovelace", url="/check/")
"""


@pytest.fixture
def group(site_server, page):
    """Return a page of the inbox with a group of 30 notifications between two others, and the row of the group."""
    site_server.python(CREATE)
    wait_for_keys(visit(page, site_server.url, "/notifications/"))
    return page.locator("li[data-group]")


def test_a_group_is_selected_beside_rows(page, group):
    """Its count is said, also to screen readers, and the verbs after it act on what is selected."""
    said = page.locator(".notifications-toolbar [role=status]")
    expect(said).to_have_text("")
    page.get_by_role("link", name="Select page").click()
    clear = page.get_by_role("link", name="Clear selection")
    expect(clear).to_have_text("32 selected")
    expect(said).to_have_text("32 selected")
    expect(page.locator(".notifications-toolbar").get_by_role("button", name="Snooze")).to_be_hidden()
    clear.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Select page")).to_be_focused()
    # By keys: the group, and what is above it.
    row(page, "Ada commented on Report 7").get_by_role("checkbox").check()
    page.keyboard.press("j")
    expect(group).to_be_focused()
    page.keyboard.press("x")
    expect(said).to_have_text("31 selected")
    page.keyboard.press("u")  # not possible with a group
    page.keyboard.press("e")
    expect(message(page)).to_contain_text("31 moved to Done.")
    expect(rows(page)).to_have_count(1)
    message(page).get_by_role("button", name="Undo").click()
    expect(message(page)).to_contain_text("Undone.")
    expect(rows(page)).to_have_count(2)
    page.reload()
    expect(group).to_contain_text("1 failed, 29 succeeded")


def test_what_is_shown_of_a_selected_group_counts_once(page, group):
    title = group.get_by_role("link", name="Imports")
    title.click()
    expect(title).to_have_attribute("aria-expanded", "true")
    expect(rows(page)).to_have_count(27)
    page.get_by_role("link", name="Select page").click()
    expect(page.get_by_role("link", name="Clear selection")).to_have_text("32 selected")
    page.locator(".notifications-toolbar").get_by_role("button", name="Done").click()
    expect(message(page)).to_contain_text("32 moved to Done.")
    expect(rows(page)).to_have_count(0)


def test_a_group_opens_and_closes_in_place(page, group):
    page.evaluate("window.isSamePage = true")
    expect(group).to_contain_text("1 failed, 29 succeeded")
    title = group.get_by_role("link", name="Imports")
    title.click()
    expect(title).to_have_attribute("aria-expanded", "true")
    expect(rows(page)).to_have_count(27)
    # The one that its row names is in the pane, and marked.
    pane = page.get_by_role("region", name="Reading pane")
    expect(pane.get_by_role("heading", level=2)).to_have_text("Import 29")
    expect(page.locator("li[aria-current]")).to_have_text(re.compile("Import 29"))
    # It is read so, as every row that is opened, and what has failed is the first.
    expect(group.locator("+ li")).to_have_text(re.compile("Import 29"))
    expect(group.locator("+ li")).not_to_have_attribute("data-unread", "")
    expect(unread_rows(page)).to_have_count(27)
    expect(group).to_have_attribute("data-unread", "")
    expect(page.get_by_role("link", name="Unread 31", exact=True)).to_be_visible()
    assert not find_violations(page)
    row(page, "Import 30").hover()
    page.get_by_role("button", name="Done: Import 30").click()
    expect(rows(page)).to_have_count(26)
    expect(message(page)).to_contain_text("1 moved to Done.")
    expect(group).to_contain_text("1 failed, 28 succeeded")
    title.click()
    expect(title).to_have_attribute("aria-expanded", "false")
    expect(rows(page)).to_have_count(2)
    title.click()
    expect(row(page, "Import 29")).to_be_visible()
    row(page, "Import 27").get_by_role("link").first.click()
    expect(row(page, "Import 27")).to_have_attribute("aria-current", "true")
    title.click()
    # It is in the pane still when the group is closed, and the next one takes its place.
    expect(group).to_have_attribute("aria-current", "true")
    for number in (29, 28):
        expect(pane.get_by_role("heading", level=2)).to_have_text(f"Import {number}")
        # The messages of both have the same text: another button is the message of this one.
        undo = message(page).locator("button:not([data-earlier])")
        undo.evaluate("(button) => (button.dataset.earlier = '')")
        pane.get_by_role("button", name="Done").click()
        expect(undo).to_be_visible()
    expect(group).to_contain_text(re.compile("Imports: 27 succeeded"))
    undo.click()
    expect(group).to_contain_text("28 succeeded")
    expect(pane.get_by_role("heading", level=2)).to_have_text("Import 28")
    pane.get_by_text("Snooze", exact=True).first.click()
    # It stays open when the content is loaded again.
    with page.expect_response(lambda response: "part=pane" in response.url):
        pane.evaluate("(pane) => pane.dispatchEvent(new Event('notifications:job-done'))")
    pane.get_by_role("button", name="In 3 hours").click()
    expect(message(page)).to_contain_text("1 snoozed")
    expect(pane.get_by_role("heading", level=2)).to_have_text("Import 27")
    assert page.evaluate("window.isSamePage")
    title.click()
    expect(row(page, "Import 28")).to_have_count(0)
    page.emulate_media(media="print")
    expect(row(page, "Import 25")).to_be_visible()
    expect(page.locator(".notifications-toolbar")).to_be_hidden()


@pytest.mark.nightly
def test_what_is_in_a_group_is_seen(site_server, page, group):
    """Also if the newest notification is in it: no other place tells of it then."""
    site_server.python(CREATE.replace('notify(user, "Ada', 'notify(user, group="Imports", title="Ada'))
    page.reload()
    wait_for_keys(page)
    expect_unseen(page, 0)
    site_server.python(CREATE)
    # The list offers them: the badge does not count them too.
    expect(page.get_by_role("link", name="32 new")).to_be_visible()
    expect(page.get_by_role("button", name="Notifications: 32 new,")).to_be_visible()
    expect_unseen(page, 0)
    page.reload()
    expect(page.get_by_role("button", name="Notifications: 96 unread")).to_be_visible()


@pytest.mark.nightly
def test_a_group_by_keyboard(site_server, page, group):
    page.evaluate("window.isSamePage = true")
    site_server.python(FAIL)
    for key in "jj":
        page.keyboard.press(key)
    expect(group).to_be_focused()
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(28)
    page.keyboard.press("j")
    expect(row(page, "Import 29")).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("e")
    expect(message(page)).to_contain_text("30 moved to Done.")
    expect(group).to_be_hidden()
    expect(rows(page)).to_have_count(2)
    expect(page.get_by_role("link", name="Inbox 2", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Report 12 is ready", exact=True)).to_be_focused()
    message(page).get_by_role("button", name="Undo").click()
    expect(rows(page)).to_have_count(28)
    expect(group.get_by_role("link", name="Imports")).to_be_focused()
    # Older notifications of it are loaded by the link below those that are shown.
    row(page, "Report 12 is ready").get_by_role("link").first.focus()
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Import 5", exact=True)).to_be_focused()
    expect(rows(page)).to_have_count(32)
    expect(page.get_by_role("link", name="Load older")).to_have_count(0)
    assert page.evaluate("window.isSamePage")


@pytest.mark.nightly
def test_an_update_from_before_an_undo_hides_no_row(site_server, page, group):
    """It would take the focus, too. Neither does one that the server answers before it has undone the change."""
    group.get_by_role("link", name="Imports").click()
    expect(rows(page)).to_have_count(27)
    held = []
    page.route("**/*part=views*", lambda route: held.append((route, route.fetch())))
    page.route("**/undo/**", lambda route: None)
    with page.expect_request("**/*part=views*"):
        group.hover()
        page.get_by_role("button", name="Done: Imports").click()
    expect(group).to_be_hidden()
    wait_until(lambda: page.evaluate("1") and held, what="the views after the change")
    message(page).get_by_role("button", name="Undo").click()
    expect(group).to_be_visible()
    route, response = held[0]
    with page.expect_event("requestfinished", lambda request: "part=views" in request.url):
        route.fulfill(response=response)
    page.evaluate("() => new Promise((resolve) => setTimeout(resolve, 100))")
    assert group.is_visible()
    page.unroute("**/*part=views*")
    site_server.python(CREATE[: CREATE.index("notify(user")] + "notify(user, 'Another')")
    expect(page.get_by_role("link", name="1 new")).to_be_visible()
    page.evaluate("() => new Promise((resolve) => setTimeout(resolve, 1300))")  # Longer than the views wait.
    assert group.is_visible()


def test_a_group_is_marked_as_read_in_place(site_server, page, group):
    """With what has arrived in it since the page was loaded, and is shown. An undo that fails leaves it as it is."""
    page.evaluate("window.isSamePage = true")
    group.get_by_role("link", name="Imports").click()
    site_server.python(CREATE.replace('notify(user, "Ada', 'notify(user, group="Imports", title="Ada'))
    expect(group).to_contain_text("2 failed, 58 succeeded, 1 update")
    group.hover()
    page.get_by_role("button", name="Mark as read: Imports").click()
    expect(message(page)).to_contain_text("60 marked as read.")
    unread = page.locator("li[data-unread]")
    expect(unread).to_have_count(2)
    expect(page.get_by_role("link", name="Unread 3", exact=True)).to_be_visible()
    page.route("**/undo/**", lambda route: route.fulfill(body="another page", content_type="text/html"))
    message(page).get_by_role("button", name="Undo").click()
    expect(message(page)).to_contain_text("Not saved.")
    expect(unread).to_have_count(2)
    page.unroute_all()
    message(page).get_by_role("button", name="Try again").click()
    expect(message(page)).to_have_text("Undone.")
    expect(page.get_by_role("link", name="Unread 63", exact=True)).to_be_visible()
    assert page.evaluate("window.isSamePage")


@pytest.mark.nightly
def test_what_arrived_before_a_group_was_opened_is_marked_too(site_server, page, group):
    """What is shown as read is read: the row of a group that is not in the pane is of when the page was loaded."""
    page.set_viewport_size({"width": 900, "height": 800})
    page.reload()
    with page.expect_response(re.compile("part=views")):  # the counts of the views
        site_server.python(CREATE.replace('notify(user, "Ada', 'notify(user, group="Imports", title="Ada'))
    group.get_by_role("link", name="Imports").click()
    expect(group).to_contain_text("2 failed, 58 succeeded, 1 update")
    group.hover()
    page.get_by_role("button", name="Mark as read: Imports").click()
    expect(message(page)).to_contain_text("61 marked as read.")


@pytest.mark.nightly
def test_a_group_without_javascript(site_server, new_page):
    page = new_page(java_script_enabled=False)
    site_server.python(CREATE)
    sign_in(page, site_server.url, "demo")
    page.goto(f"{site_server.url}/notifications/")
    page.get_by_role("link", name="Imports").click()
    expect(row(page, "Import 30")).to_be_visible()
    page.get_by_role("link", name=re.compile("^Imports.*Remove this filter$")).click()
    page.locator("li[data-group]").hover()
    page.get_by_role("button", name="Mark as read: Imports").click()
    expect(page.get_by_text("30 marked as read.")).to_be_visible()
    expect(page.locator("li[data-group][data-unread]")).to_have_count(0)


PEOPLE = """
for name in ("Ada Lovelace", "Grace Hopper", "Linus"):
    notify(user, f"{name} commented on Report 7", actor=name, group="Report 7", url="/check/")
"""


FAIL = """
from notifications.models import Notification
Notification.objects.filter(title="Import 3").update(level="error")
"""

ARCHIVE = """
from django.contrib.auth import get_user_model
from notifications.models import Notification
from notifications.streams.marking import mark
user = get_user_model().objects.get(username="demo").pk
mark(user, "archive", 10**6, [Notification.objects.get(title="Import 7").pk])
"""
ADD_GROUP = """
for n in range(1, 3):
    notify(user, f"Export {n}", group="Exports")
"""
ARCHIVE_GROUP = """
from django.contrib.auth import get_user_model
from notifications.streams.marking import mark
mark(get_user_model().objects.get(username="demo").pk, "archive", 10**6, group="n:Exports")
"""


COUNT = """
from notifications.models import Notification
rows = Notification.objects.filter(group_key="n:Imports")
print(rows.filter(archived_at=None).count(), rows.exclude(archived_at=None).count())
"""


def keep_screenshot(page, name):
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"groups-{name}.png")


@pytest.mark.nightly
def test_groups_in_the_bell(site_server, page):
    """As the server groups them. They follow what is done in another place, and their buttons change all of them."""
    site_server.python(CREATE + PEOPLE)
    visit(page, site_server.url, "/check/")
    panel = open_bell(page)
    titles = panel.locator(".notifications-title")
    shown = ["Linus and 2 others", "Ada commented on Report 7", "Imports: 1 failed, 29 succeeded"]
    expect(titles).to_have_text([*shown, "Report 12 is ready"])
    people, imports = panel.locator("li").nth(0), panel.locator("li").nth(2)
    expect(people.locator(".notifications-disc")).to_have_text("L")
    expect(imports).to_have_attribute("data-level", "error")
    expect(imports.locator(".notifications-body")).to_have_text("Import 29 · Rows of file 29.. ")
    expect_unseen(page, 0)
    keep_screenshot(page, "bell")
    assert not find_violations(page, "notifications-bell", disabled=["target-size"])
    site_server.python(ARCHIVE)
    expect(titles).to_have_text([*shown[:2], "Imports: 1 failed, 28 succeeded", "Report 12 is ready"])
    # What is new waits, and the groups that are shown stay where they are.
    site_server.python(
        CREATE[: CREATE.index('notify(user, "Report')] + "notify(user, 'Import 31', group='Imports')"
    )
    panel.get_by_role("button", name="1 new").click()
    expect(titles).to_have_text(
        ["Imports: 1 failed, 28 succeeded, 1 update", *shown[:2], "Report 12 is ready"]
    )
    group = panel.locator("li").nth(0)
    group.hover()
    group.get_by_role("button", name="Mark as read: Imports").click()
    expect(group).not_to_have_attribute("data-unread", "")
    expect_unread(page, 5)
    # What is done is undone in its place, and no other.
    group.get_by_role("button", name="Done: Imports").click()
    undo = group.get_by_role("button", name="Undo: Imports")
    expect(undo).to_be_focused()
    expect_unread(page, 5)
    undo.click()
    expect(undo).to_have_count(0)
    expect(group.get_by_role("link", name="Imports")).to_be_focused()
    assert site_server.python(COUNT).split() == ["30", "1"]
    # It does not come back where the list cannot be loaded.
    page.route(re.compile("limit="), lambda route: route.fulfill(body="No JSON"))
    group.get_by_role("button", name="Done: Imports").click()
    expect(group.locator(".notifications-done")).to_have_text("30 moved to Done.Undo")
    page.keyboard.press("Escape")
    open_bell(page)
    expect(panel.get_by_text("could not be loaded")).to_be_visible()
    expect(titles).to_have_text([*shown[:2], "Report 12 is ready"])
    page.route(
        re.compile("limit=.*background="), lambda route: None
    )  # Else it loads by itself before the press.
    page.unroute(re.compile("limit="))
    panel.get_by_role("button", name="Try again").click()
    expect(titles).to_have_text([*shown[:2], "Report 12 is ready"])
    panel.get_by_role("button", name="Unread", exact=True).click()
    expect(titles).to_have_text([*shown[:2], "Report 12 is ready"])
    titles.first.click()
    page.wait_for_url("**/notifications/?group=n%3AReport%207")
    expect(rows(page)).to_have_count(3)


@pytest.mark.nightly
def test_undo_stays_if_the_list_is_loaded_before_the_response(site_server, page):
    """The change is pushed when it is committed, and the list of the bell is loaded again then."""
    site_server.python(CREATE)
    visit(page, site_server.url, "/check/")
    panel = open_bell(page)
    expect(panel.locator("li")).to_have_count(3)
    held = []
    page.route("**/notifications/archive/*", lambda route: held.append((route, route.fetch())))
    group = panel.locator("li").nth(1)
    group.hover()
    with page.expect_event("requestfinished", lambda request: "grouped=1&background=1" in request.url):
        group.get_by_role("button", name="Done: Imports").click()
    page.evaluate("() => new Promise((resolve) => setTimeout(resolve, 100))")
    route, response = held[0]
    route.fulfill(response=response)
    panel.get_by_role("button", name="Undo: Imports").click()
    expect(group.get_by_role("link", name="Imports")).to_be_visible()
    expect(panel.locator("li")).to_have_count(3)


@pytest.mark.nightly
def test_a_group_that_is_done_does_not_come_back_to_the_bell(site_server, page):
    """By the response to a request from before, which arrives late: one is done in the bell, another one elsewhere."""
    site_server.python(CREATE + ADD_GROUP)
    visit(page, site_server.url, "/check/")
    panel, held = open_bell(page), []
    group, other = (panel.locator("li", has_text=name) for name in ("Imports", "Exports"))
    expect(group).to_be_visible()
    refresh = re.compile("grouped=1.*background=1")
    page.route(refresh, lambda route: held.append((route, route.fetch())), times=1)
    with page.expect_request(refresh):
        site_server.python(ARCHIVE)
    wait_until(lambda: page.evaluate("1") and held, what="the groups before the change")
    site_server.python(ARCHIVE_GROUP)
    expect(other).to_have_count(0)
    group.hover()
    with page.expect_response(refresh):
        group.get_by_role("button", name="Done: Imports").click()
    done = panel.locator(".notifications-done")
    expect(done).to_be_visible()
    route, response = held[0]
    with page.expect_event("requestfinished", lambda request: request == route.request):
        route.fulfill(response=response)
    page.evaluate("() => new Promise((resolve) => setTimeout(resolve, 100))")
    expect(panel.locator("li")).to_have_count(3)
    assert done.is_visible() and other.count() == 0
    page.keyboard.press("Escape")
    open_bell(page)
    expect(group).to_have_count(0)


RAISE_NOTIFICATION = """
from datetime import timedelta
from django.contrib.auth import get_user_model
from notifications import times
from notifications.models import Notification
from notifications.streams import snoozing
from tests.support.duties import run_duty
user = get_user_model().objects.get(username="demo").pk
rows = Notification.objects.filter(title__startswith="{title}")
snoozing.snooze(user, [rows.get().pk], 10**6, times.now() + timedelta(hours=1))
rows.update(snoozed_until=times.now() - timedelta(seconds=1))
run_duty("raise snoozed notifications")
print(rows.get().raised)
"""


@pytest.mark.nightly
def test_what_was_raised_again_is_done_in_the_bell(site_server, page):
    """Its row, which is where it was, changes it up to its new position, also in the inbox."""
    site_server.python(CREATE)
    visit(page, site_server.url, "/check/")
    first = open_bell(page).locator("li").first
    expect(first).to_contain_text("Ada commented")
    page.keyboard.press("Escape")
    site_server.python(RAISE_NOTIFICATION.format(title="Ada"))
    expect_unseen(page, 1)
    open_bell(page)
    expect_unseen(page, 0)
    first.hover()
    first.get_by_role("button", name="Done: Ada commented").click()
    expect(first).to_contain_text("1 moved to Done.")
    wait_for_keys(visit(page, site_server.url, "/notifications/"))
    expect(rows(page)).to_have_count(1)
    site_server.python(RAISE_NOTIFICATION.format(title="Report 12"))
    expect(page.get_by_role("link", name="1 new")).to_be_visible()
    rows(page).hover()
    page.get_by_role("button", name="Done: Report 12").click()
    expect(message(page)).to_contain_text("1 moved to Done.")
    page.reload()
    expect(page.locator("li[data-group]")).to_be_visible()
    expect(rows(page)).to_have_count(0)
