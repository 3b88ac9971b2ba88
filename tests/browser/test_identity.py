"""A page shows nothing of its user once a different one is signed in in the same browser, however that came about."""

import pytest
from playwright.sync_api import expect

from tests.browser.parts import (
    find_bell,
    find_toasts,
    in_each_browser,
    open_bell,
    visit,
    wait_until_live,
)
from tests.realtime.servers.test_servers import DAPHNE, UVICORN
from tests.support.browser import post_form, sign_in_over_http
from tests.support.network import Proxy, is_listening
from tests.support.site import START_TIMEOUT_SECONDS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SESSIONS = """
from django.contrib.sessions.models import Session
from django.utils import timezone
sessions = Session.objects.filter(pk={key!r})
"""


@pytest.fixture(scope="module")
def served(request, sites):
    """One running site for all tests of a server: Daphne, but in tests of `in_each_server`."""
    server = getattr(request, "param", DAPHNE)
    pytest.importorskip(server[1])
    site = sites.make()
    site.environment["EMBEDDED_WORKER"] = "0"
    site.web = site.start("web", *(part.format(port=site.port) for part in server))
    site.web.wait_until(
        lambda: is_listening(site.port), what="the server to listen", timeout=START_TIMEOUT_SECONDS
    )
    yield site
    site.close()


#: For tests in which the server closes the connection. In the others the page finds out by itself.
in_each_server = pytest.mark.parametrize(
    "served", [DAPHNE, UVICORN], ids=["daphne", "uvicorn"], indirect=True, scope="module"
)


@pytest.fixture
def open_page(served, new_page):
    """Open a page of demo, live, whose bell shows "Secret". A refused request is an error in its console."""

    def open_one(url=served.url):
        served.manage("notify", "demo", "Secret", "--key", "secret")
        page = new_page(errors=False)
        visit(page, url, "/check/")
        expect(open_bell(page).get_by_role("link", name="Secret").first).to_be_visible()
        return page

    return open_one


def expect_signed_out(page, served):
    """Expect that the page is signed out, by itself, holds nothing of demo, and receives nothing."""
    page.wait_for_function("async () => (await notifications.ready).client.state === 'signed_out'")
    served.manage("notify", "demo", "Later secret", "--key", "secret")
    expect(page.get_by_role("dialog", name="Notifications").get_by_role("status")).to_contain_text(
        "You are signed out"
    )
    expect(page.get_by_role("link", name="secret")).to_have_count(0)
    expect(find_toasts(page)).to_have_count(0)
    expect(find_bell(page, 0)).to_be_visible()
    held = "async () => [...(await notifications.ready).client.stream.notifications.values()].length"
    assert page.evaluate(held) == 0


def session_key(page):
    return next(cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "sessionid")


def swap_cookies(page, site, new_page):
    """Give the browser of the page the cookies of a session of other. Those of demo stay valid on the server."""
    another_browser = new_page().context
    sign_in_over_http(another_browser, site.url, "other")
    page.context.clear_cookies()
    page.context.add_cookies(another_browser.cookies())


@pytest.mark.nightly_names("*[chromium-daphne]", "*[firefox-*")
@in_each_server
@in_each_browser
def test_sign_in_over(served, open_page):
    """Django flushes the session without a sign-out. The server closes its connection; no page needs to be opened."""
    page = open_page()
    # The site's own view sends people away who are signed in; the admin's signs staff in over them.
    post_form(page.context, f"{served.url}/admin/login/", username="admin", password="admin")
    expect_signed_out(page, served)


@pytest.mark.nightly_names("*[chromium]")
@in_each_browser
def test_impersonation(served, open_page, new_page):
    """The session of the open page stays valid. The first page of the other user reaches it, the page itself works."""
    page = open_page()
    follower = page.context.new_page()
    follower.goto(f"{served.url}/reports/")
    wait_until_live(follower)
    swap_cookies(page, served, new_page)
    other_page = page.context.new_page()
    other_page.goto(f"{served.url}/check/")
    wait_until_live(other_page)
    expect_signed_out(page, served)
    follower.wait_for_function("async () => (await notifications.ready).client.state === 'signed_out'")
    served.manage("notify", "other", "For the other user", "--key", "other")
    expect(open_bell(other_page).get_by_role("link", name="For the other user")).to_be_visible()


@pytest.mark.nightly_names("*[focus-chromium]")
@in_each_browser
@pytest.mark.parametrize("event", ["focus", "visibilitychange"])
def test_cookies_of_another_user_are_found_on_focus(served, open_page, new_page, event):
    """No page of the other user was opened."""
    page = open_page()
    swap_cookies(page, served, new_page)
    page.evaluate("(type) => (type === 'focus' ? window : document).dispatchEvent(new Event(type))", event)
    expect_signed_out(page, served)


@pytest.mark.nightly
@pytest.mark.parametrize("is_session_ended", [False, True], ids=["cookies swapped", "session ended"])
def test_what_a_hidden_tab_has_not_shown(served, open_page, new_page, is_session_ended):
    """It is no toast for the user who looks at the tab next, not for a moment either."""
    page = open_page()
    page.evaluate(
        "window.toasts = [];"
        "addEventListener('notifications:toast', (event) => toasts.push(...event.detail));"
        "Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true })"
    )
    title = f"Hidden secret, {'ended' if is_session_ended else 'swapped'}"
    served.manage("notify", "demo", title)
    held = "async (title) => [...(await notifications.ready).client.stream.notifications.values()]"
    page.wait_for_function(f"{held}.some((item) => item.title === title)", arg=title)
    if is_session_ended:
        post_form(page.context, f"{served.url}/admin/login/", username="admin", password="admin")
        page.wait_for_function("async () => (await notifications.ready).client.state === 'signed_out'")
    else:
        swap_cookies(page, served, new_page)
    page.evaluate("delete document.visibilityState; document.dispatchEvent(new Event('visibilitychange'))")
    expect_signed_out(page, served)
    assert page.evaluate("toasts") == []


@in_each_browser
def test_back_forward_cache(served, open_page, new_page):
    """A page that returns from the cache asks who is signed in before it goes on."""
    page = open_page()
    show = "(type) => dispatchEvent(new PageTransitionEvent(type, { persisted: true }))"
    page.evaluate(show, "pagehide")
    swap_cookies(page, served, new_page)
    page.evaluate(show, "pageshow")
    expect_signed_out(page, served)


@pytest.mark.nightly_names("*[*-daphne]", "*[*-firefox-*]", "*[deleted row-*]", "*[expiry-*")
@in_each_server
@in_each_browser
@pytest.mark.parametrize(
    "end",
    [
        "sessions.update(expire_date=timezone.now())",
        "sessions.delete()",
        "from django.contrib.auth import get_user_model as model\n"
        "user = model().objects.get(username='demo')\n"
        "user.set_password('demo')\n"
        "user.save()",
    ],
    ids=["expiry", "deleted row", "password change"],
)
def test_session_that_ends_on_the_server(served, open_page, end):
    """Neither the browser nor a signal tells the page."""
    page = open_page()
    served.python(SESSIONS.format(key=session_key(page)) + end)
    expect_signed_out(page, served)


@in_each_browser
def test_sleep_through_a_sign_out(served, open_page):
    """The page is not connected while its user signs out, and another one signs in."""
    with Proxy(served.port) as proxy:
        page = open_page(proxy.url)
        proxy.cut()
        page.context.request.get(f"{served.url}/accounts/login/")
        post_form(page.context, f"{served.url}/accounts/logout/")
        sign_in_over_http(page.context, served.url, "other")
        proxy.restore()
        page.evaluate("dispatchEvent(new Event('online'))")
        expect_signed_out(page, served)
