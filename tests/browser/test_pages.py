"""The inbox, the job page, and the client's API for scripts of a page."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.parts import expect_unread, find_bell, visit, wait_until_live
from tests.support.browser import sign_in
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

CREATE_30_NOTIFICATIONS = """
from django.contrib.auth import get_user_model
from notifications.api import notify
user = get_user_model().objects.get(username="demo")
for n in range(1, 31): notify(user, f"Number {n}", url="/check/")
"""


@pytest.mark.nightly
def test_inbox_without_javascript(site_server, new_page):
    """It lists 25 notifications per page, newest first, with forms that mark them, and requires a sign-in."""
    site_server.python(CREATE_30_NOTIFICATIONS)
    page = new_page(java_script_enabled=False)
    page.goto(f"{site_server.url}/notifications/")
    assert "/accounts/login/?next=/notifications/" in page.url
    submit_sign_in(page)
    items = page.locator("notifications-inbox").get_by_role("listitem")
    expect(items).to_have_count(25)
    expect(items.first).to_contain_text("Number 30")
    page.get_by_role("link", name="Load older").click()
    expect(items).to_have_count(5)
    expect(items.last).to_contain_text("Number 1")
    items.first.get_by_role("button", name="Mark as read: Number 5").click()
    expect(page.get_by_role("button", name="Mark as read: Number 5")).to_have_count(0)
    expect(items).to_have_count(5)
    # The form tells what was shown, Number 5 and older. A GET marks nothing as seen.
    expect(page.locator("notifications-bell a")).to_contain_text("25")
    page.get_by_role("link", name="Newest").click()
    page.get_by_role("button", name="Mark all as read").click()
    expect(page.get_by_role("button", name="Mark all as read")).to_have_count(0)
    expect(items).to_have_count(25)
    expect(page.locator("notifications-inbox [data-unread]")).to_have_count(0)


def test_an_open_inbox_is_updated_without_moving(site_server, new_page):
    """Notifications that are read elsewhere are shown as read. New ones are offered above the list."""
    site_server.manage("notify", "demo", "Old", "--url", "/check/")
    page, other = new_page(), new_page()
    visit(page, site_server.url, "/notifications/")
    visit(other, site_server.url, "/notifications/")
    expect(page.locator("notifications-inbox [data-unread]")).to_have_count(1)
    other.locator("notifications-inbox").get_by_role("link", name="Old", exact=True).click()
    expect(page.locator("notifications-inbox [data-unread]")).to_have_count(0)
    expect(page.get_by_role("button", name=re.compile("^Mark as read"))).to_have_count(0)
    site_server.manage("notify", "demo", "New")
    offer = page.locator("notifications-inbox").get_by_role("link", name="1 new")
    expect(offer).to_be_visible()
    expect(page.locator("notifications-inbox").get_by_text("New", exact=True)).to_have_count(0)
    offer.click()
    expect(page.locator("notifications-inbox").get_by_role("listitem")).to_have_count(2)


def test_an_empty_inbox_shows_what_arrives(site_server, page):
    """Nothing is being read there, so nothing is offered; what is typed beside it stays."""
    visit(page, site_server.url, "/notifications/")
    inbox = page.locator("notifications-inbox")
    expect(inbox).to_contain_text("When a job of yours finishes or asks you something, you'll see it here.")
    page.evaluate("window.isSamePage = true")
    search = page.get_by_role("searchbox")
    search.focus()
    site_server.manage("notify", "demo", "First")
    site_server.manage("notify", "demo", "Second")
    # The second one arrives when the first one is shown, as in any other list.
    offer = inbox.get_by_role("link", name="1 new")
    expect(inbox.get_by_role("link", name="First", exact=True)).to_be_visible()
    expect(inbox.get_by_role("link", name="Second", exact=True).or_(offer)).to_be_visible()
    expect(search).to_be_focused()
    assert page.evaluate("window.isSamePage")


def test_a_search_that_is_typed_while_an_empty_inbox_is_loaded(site_server, page):
    """The list that is put in its place does not end the search."""
    site_server.manage("notify", "demo", "First")
    visit(page, site_server.url, "/notifications/?q=zzz")
    inbox = page.locator("notifications-inbox")
    expect(inbox).to_contain_text("No notification matches.")
    held = []
    is_list = re.compile(r"/notifications/\?q=zzz(&background=1)?$")
    page.route(is_list, lambda route: held.append(route))
    with page.expect_request(is_list):
        site_server.manage("notify", "demo", "Second")
    page.get_by_role("searchbox").fill("First")
    held[0].continue_()
    expect(inbox.get_by_role("link", name="First", exact=True)).to_be_visible()
    expect(page).to_have_url(re.compile("q=First$"))


@pytest.mark.nightly
def test_an_older_page_below_one_without_rows(site_server, page):
    """A search that has read many notifications without a hit is continued by a link, and not begun anew."""
    site_server.manage("notify", "demo", "First")
    end = (
        '<nav><span data-end><span class="notifications-note">Searched 7,500</span> '
        '<a rel="next" href="?q=First">Search older</a></span></nav></notifications-inbox>'
    )

    def without_rows(route):
        response = route.fetch()
        route.fulfill(response=response, body=response.text().replace("</notifications-inbox>", end))

    page.route(re.compile(r"/notifications/\?q=Second$"), without_rows)
    visit(page, site_server.url, "/notifications/?q=Second")
    inbox = page.locator("notifications-inbox")
    older = inbox.get_by_role("link", name="Search older")
    older.focus()
    site_server.manage("notify", "demo", "Second")
    expect(inbox.get_by_role("link", name="1 new")).to_be_visible()
    page.wait_for_timeout(1500)  # The views are loaded within a second.
    expect(older).to_be_focused()
    older.click()
    first = inbox.get_by_role("link", name="First", exact=True)
    expect(first).to_be_visible()
    expect(first).to_be_focused()


ENQUEUE = """async (urls) => {
    const { ask } = await notifications.ready;
    const job = ask("/reports/", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ title: "Enqueued by a script", urls }),
    });
    const progress = [];
    job.on("progress", ({ current }) => progress.push(current));
    const outcome = job.result.then((result) => ({ result }), (error) => ({ error: error.message }));
    window.enqueued = { progress, outcome };
    return await job.accepted;
}"""


@pytest.mark.smoke
def test_a_script_enqueues_and_awaits_a_job_that_the_job_page_shows(site_server, new_page):
    """`accepted` and `result` of ask() are resolved, although another tab has the socket."""
    site = site_server
    page = new_page()
    visit(page, site.url, "/check/")
    second = page.context.new_page()
    second.goto(f"{site.url}/check/")
    wait_until_live(second)
    job = second.evaluate(ENQUEUE, site.held_urls(30))
    page.goto(f"{site.url}/notifications/jobs/{job}/")
    expect(page.get_by_role("heading", name="Enqueued by a script")).to_be_visible()
    bar = page.get_by_role("progressbar")
    expect(bar).to_have_js_property("max", 30)
    expect(page.get_by_text("You can leave this page.")).to_be_visible()
    for count in (10, 30):
        site.release(count)
        wait_until(lambda n=count: n in second.evaluate("window.enqueued.progress"), what=f"progress {count}")
        if count < 30:
            expect(page.locator("notifications-job > [role=status]:not([data-job-part])")).to_contain_text(
                "10 of 30"
            )
            expect(page.locator("[data-job-part=offline]")).to_contain_text("Can't reach the server.")
    expect(page.locator(".notifications-state")).to_have_text("30 of 30 passed")
    expect(page.get_by_role("link", name="View result")).to_be_visible()
    outcome = second.evaluate("window.enqueued.outcome")
    assert "error" not in outcome, outcome
    expect_unread(second, 0)  # The page of the job has shown its end.


def test_ask_rejects_with_the_servers_problem(site_server, new_page):
    """`accepted` rejects with the message and the status of the problem."""
    page = new_page(errors=False)  # Chromium logs each response of 400 or more.
    visit(page, site_server.url, "/check/")
    refused = page.evaluate(
        """async () => {
            const { ask } = await notifications.ready;
            const headers = { "Content-Type": "application/json" };
            try { await ask("/reports/", { method: "POST", headers, body: '{"urls": ["no url"]}' }).accepted; }
            catch (error) { return { name: error.name, status: error.status, message: error.message }; }
        }"""
    )
    assert refused["name"] == "RequestRefused"
    assert refused["status"] == 422
    assert refused["message"]


def test_a_content_security_policy_with_nonces(site_server, new_page):
    """The nonce of the entry module allows the modules that it imports. A style sheet imports none."""
    page = new_page(errors=False)  # Chromium forbids sockets to loopback in a page that a test has changed.
    sign_in(page, site_server.url)

    def with_nonce(route):
        response = route.fetch()
        body = re.sub(r' nonce="[^"]*"', "", response.text())  # A second nonce on one element is ignored.
        body = re.sub(
            r'<(?:script|style|link rel="(?:modulepreload|stylesheet)")(?=[ >])', r'\g<0> nonce="abc"', body
        )
        sources = "default-src 'self'; script-src 'nonce-abc'; style-src 'nonce-abc'"
        policy = {"content-security-policy": sources}
        route.fulfill(response=response, body=body, headers={**response.headers, **policy})

    page.route("**/check/", with_nonce)
    page.goto(f"{site_server.url}/check/")
    expect(find_bell(page, 0)).to_be_visible()
    expect(find_bell(page, 0)).to_have_css("width", "52px")
    assert page.locator("notifications-bell").evaluate(
        "(bell) => getComputedStyle(bell).getPropertyValue('--accent')"
    )


#: After `isPollingHeld` is set, no interval of polling ends.
HOLD_POLLING = """{
    const start = window.setTimeout;
    window.setTimeout = (callback, ms) =>
        start(() => ms === 15_000 && window.isPollingHeld ? undefined : callback(), ms);
}"""


@pytest.mark.smoke
def test_the_client_polls_without_websockets(site_server, new_page):
    """A notification arrives within one interval. Changes that the page itself makes are shown immediately."""
    page = new_page(errors=False)
    page.add_init_script("window.WebSocket = class { constructor() { throw new Error('no WebSocket'); } }")
    page.add_init_script(HOLD_POLLING)
    sign_in(page, site_server.url)
    page.goto(f"{site_server.url}/check/")
    page.wait_for_function("async () => (await window.notifications?.ready)?.client.state === 'polling'")
    site_server.manage("notify", "demo", "By polling")
    expect_unread(page, 1)
    page.evaluate("window.isPollingHeld = true")
    find_bell(page).click()
    page.get_by_role("button", name="Mark all as read").click()
    expect_unread(page, 0)


@pytest.mark.nightly_names("*[/admin/auth/user/]")
@pytest.mark.parametrize("path", ["/admin/", "/admin/auth/user/"])
def test_the_admin_has_the_bell(site_server, new_page, path):
    """It is in the header, with live counts."""
    page = new_page(errors=False)  # The admin has no favicon.
    visit(page, site_server.url, path, username="admin")
    expect(find_bell(page, 0)).to_be_visible()
    site_server.manage("notify", "admin", "For staff")
    expect_unread(page, 1)


def submit_sign_in(page):
    page.locator("input[name=username]").fill("demo")
    page.locator("input[name=password]").fill("demo")
    page.locator("input[name=password]").press("Enter")


def test_progress_continues_with_a_job_that_is_retried(site_server, page):
    """Without a reload, <notifications-job> shows the failure and then the second attempt."""
    visit(page, site_server.url, "/check/")
    job = site_server.python(
        "from django.contrib.auth import get_user_model\n"
        "from asyncsite.tasks import check_urls\n"
        "user = get_user_model().objects.get(username='demo')\n"
        "print(check_urls.using(owner=user).enqueue('no report').id)"
    ).strip()
    page.evaluate(
        """(id) => {
            window.ended = [];
            const progress = document.createElement("notifications-job");
            progress.setAttribute("job", id);
            progress.addEventListener("notifications:job-done", (event) => window.ended.push(event.detail.attempt));
            document.body.append(progress);
        }""",
        job,
    )
    page.wait_for_function("() => ended.join() === '1'")
    expect(page.locator("notifications-job")).to_contain_text("Failed")
    page.evaluate(
        "async (url) => { await (await notifications.ready).ask(url, { method: 'POST' }).accepted }",
        f"/notifications/api/jobs/{job}/retry/",
    )
    page.wait_for_function("() => ended.join() === '1,2'")
    expect(page.locator("notifications-job")).to_contain_text("attempt 2")
