"""The badge counts the unseen: opening the bell or the inbox clears it in all windows, and marks nothing as read."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.parts import (
    expect_unread,
    expect_unseen,
    find_bell,
    find_toasts,
    in_each_browser,
    open_bell,
    read_toast_count,
    start_counting_toasts,
    visit,
    wait_until_live,
)

pytestmark = pytest.mark.browser


def count_posts(page):
    """Return a list that gets the URL of each request that marks as seen from now on."""
    urls = []
    page.on("request", lambda request: "/seen/" in request.url and urls.append(request.url))
    return urls


@in_each_browser
def test_opening_the_bell_clears_the_badge_on_all_devices(site_server, new_page):
    """Two browsers of one user, one of them with two tabs. One request is sent, and the rows stay unread."""
    for title in ("First", "Second"):
        site_server.manage("notify", "demo", title)
    one, other_device = new_page(), new_page()
    visit(one, site_server.url, "/reports/")
    visit(other_device, site_server.url, "/reports/")
    other_tab = one.context.new_page()
    other_tab.goto(f"{site_server.url}/check/")
    wait_until_live(other_tab)
    for page in (one, other_tab, other_device):
        expect_unseen(page, 2)
    expect(one.get_by_role("button", name="Notifications: 2 new, 2 unread", exact=True)).to_be_visible()
    posts = count_posts(one)
    dialog = open_bell(one)
    for page in (one, other_tab, other_device):
        expect_unseen(page, 0)
        expect_unread(page, 2)
    expect(one.get_by_role("button", name="Notifications: 2 unread", exact=True)).to_be_visible()
    expect(dialog.get_by_text("Unread:")).to_have_count(2)
    for _ in range(2):
        one.keyboard.press("Escape")
        open_bell(one)
    site_server.manage("notify", "demo", "Third")
    for page in (one, other_tab, other_device):
        expect_unseen(page, 0 if page is one else 1)  # The open panel offers it.
        expect_unread(page, 3)
    assert len(posts) == 1
    # It was offered and not shown yet.
    dialog.get_by_role("button", name="1 new").click()
    for page in (one, other_device):
        expect_unseen(page, 0)
    assert len(posts) == 2


@pytest.mark.nightly
def test_opening_the_inbox_clears_the_badge(site_server, new_page):
    """A visible inbox marks what it lists as seen; a page that only shows the bell does not."""
    for title in ("First", "Second"):
        site_server.manage("notify", "demo", title)
    page, other_device = new_page(), new_page()
    visit(other_device, site_server.url, "/reports/")
    visit(page, site_server.url, "/reports/")
    expect_unseen(page, 2)
    page.goto(f"{site_server.url}/notifications/")
    for each in (page, other_device):
        expect_unseen(each, 0)
        expect_unread(each, 2)
    expect(page.locator("notifications-inbox [data-unread]")).to_have_count(2)
    page.reload()
    wait_until_live(page)
    expect_unseen(page, 0)


def test_hidden_inbox_marks_nothing_until_it_is_visible(site_server, page):
    """It may have been opened in a background tab."""
    site_server.manage("notify", "demo", "First")
    page.add_init_script(
        "Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true })"
    )
    visit(page, site_server.url, "/notifications/")
    expect_unseen(page, 1)
    expect(page).to_have_title(re.compile(r"^\(1\) "))
    site_server.manage("notify", "demo", "Second")
    expect_unseen(page, 2)
    # It is offered, also to who returns when nothing else arrives.
    expect(page.locator("notifications-inbox").get_by_role("link", name="1 new", exact=True)).to_be_visible()
    page.evaluate(
        """() => {
            Object.defineProperty(document, "visibilityState", { value: "visible", configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    # The second one is offered by a link, and not shown yet.
    expect_unseen(page, 1)


@pytest.mark.nightly
def test_opening_the_bell_raises_no_toast_about_its_rows(site_server, new_page):
    """Its rows are read over HTTP, and are as young as those that become toasts after an absence."""
    page = new_page(errors=False)
    for title in ("First", "Second"):
        site_server.manage("notify", "demo", title)
    visit(page, site_server.url, "/reports/")  # rendered after them: they are in the list only
    # They stay unseen, which would be another reason for no toast.
    page.route("**/notifications/seen/**", lambda route: route.abort())
    start_counting_toasts(page)
    expect(open_bell(page).get_by_role("listitem")).to_have_count(2)
    page.keyboard.press("Escape")
    site_server.manage("notify", "demo", "Third")
    expect(find_toasts(page).filter(has_text="Third")).to_be_visible()
    assert read_toast_count(page) == 1


@pytest.mark.nightly
def test_without_javascript_a_form_marks_as_seen(site_server, new_page):
    """Reading the page writes nothing. The first form that is sent clears the badge; other rows stay unread."""
    for title in ("First", "Second"):
        site_server.manage("notify", "demo", title)
    plain = new_page(java_script_enabled=False)
    plain.goto(f"{site_server.url}/accounts/login/")
    plain.locator("input[name=username]").fill("demo")
    plain.locator("input[name=password]").fill("demo")
    plain.locator("input[name=password]").press("Enter")
    badge = plain.locator("notifications-bell .notifications-count:not(.notifications-asks)")
    for _ in range(2):
        plain.goto(f"{site_server.url}/notifications/")
        expect(badge).to_have_text("2")
    plain.get_by_role("button", name="Mark as read: First").click()
    expect(badge).to_have_count(0)
    expect(plain.locator("notifications-inbox [data-unread]")).to_have_count(1)


def test_badge_and_name_of_the_bell_after_reading(site_server, page):
    """What is read is not unseen any more."""
    site_server.manage("notify", "demo", "First", "--url", "/check/")
    visit(page, site_server.url, "/reports/")
    expect_unseen(page, 1)
    open_bell(page).get_by_role("link", name="First").click()
    page.wait_for_url(re.compile("/check/$"))
    expect_unseen(page, 0)
    expect(find_bell(page, 0)).to_have_accessible_name("Notifications: none unread")


@pytest.mark.nightly
def test_receipts_of_pushes(site_server, new_page):
    """When the page has received what it marks as seen, and shown it in a toast: in the same request."""
    page = new_page()
    visit(page, site_server.url, "/reports/")
    start_counting_toasts(page)
    bodies = []
    page.on("request", lambda request: "/seen/" in request.url and bodies.append(request.post_data_json))
    site_server.manage("notify", "demo", "Pushed")
    expect(find_toasts(page).get_by_text("Pushed")).to_be_visible()
    page.wait_for_timeout(1_000)
    with page.expect_response(re.compile("/seen/")):  # The badge does not count what a toast shows.
        open_bell(page)
    page.keyboard.press("Escape")
    site_server.manage("notify", "demo", "Later")
    expect(find_toasts(page).get_by_text("Later")).to_be_visible()
    with page.expect_response(re.compile("/seen/")):
        open_bell(page)
    expect_unseen(page, 0)
    first, second = bodies
    assert [list(receipt) for receipt in first["receipts"]] == [["raised", "received_ago_ms", "toast_ago_ms"]]
    assert 1_000 <= first["receipts"][0]["toast_ago_ms"] <= first["receipts"][0]["received_ago_ms"] < 60_000
    assert len(second["receipts"]) == 2 and second["receipts"][0]["raised"] == first["receipts"][0]["raised"]
    shown = site_server.manage("notifications", "explain", "--user", "demo")
    lines = re.findall(r"(Pushed to .* after|Shown as a toast after) (\d+) ms\.", shown)
    assert [line for line, _ in lines] == [lines[0][0], "Shown as a toast after"] * 2
    assert all(int(milliseconds) < 60_000 for _, milliseconds in lines)
