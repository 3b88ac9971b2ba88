"""The project `everything` in Chromium, which logs each violation of the Content-Security-Policy."""

import django
import pytest
from playwright.sync_api import expect

from tests.browser.parts import expect_unread, find_toasts, open_bell, wait_until_live
from tests.support.waiting import wait_until

# Without the marker on Django 5.2, so that it is not deselected with other browser tests: nonces differ there.
pytestmark = [pytest.mark.nightly, *([pytest.mark.browser] if django.VERSION >= (6, 0) else [])]


FAIL = """
from django.contrib.auth import get_user_model
from tests.hosts.everything.tasks import fail_export
owner = get_user_model().objects.get(username="operator")
for year in range(3):
    fail_export.using(owner=owner).enqueue(year)
"""


def sign_in(page, host, username="boss"):
    page.goto(f"{host.origin}/app/en/sign-in/")
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Start").wait_for()


@pytest.mark.parametrize("asgi", ["daphne-uuid", "uvicorn-string"], indirect=True)
def test_admin(asgi, page):
    """The operator's pages below a script name: no policy is violated, each link works, and styles are applied."""
    asgi.manage("shell", "-c", FAIL)
    sign_in(page, asgi, "operator")
    wait_until(
        lambda: asgi.rows("app", "SELECT count(*) FROM notifications_job WHERE state = 'failed'") == [(3,)],
        what="the jobs to fail",
    )
    admin = f"{asgi.origin}/app/en/admin/notifications"
    page.goto(f"{admin}/job/")
    assert page.locator("#nav-sidebar").count() == 1
    minimum = page.locator("#changelist-filter li a").first.evaluate("a => getComputedStyle(a).minHeight")
    assert minimum == "24px", "the style sheet was refused"
    page.get_by_role("link", name="Failed (3)").click()
    page.get_by_role("link", name="Export 2", exact=True).click()
    expect(page.get_by_role("group", name="Attempts that did not succeed")).to_be_visible()
    page.goto(f"{admin}_schedules/schedule/")
    page.goto(f"{admin}_operations/overview/")
    page.get_by_role("link", name="Week").click()
    with page.expect_response(lambda response: "/overview/figures/" in response.url) as figures:
        pass
    assert figures.value.ok
    page.get_by_role("button", name="Retry these 3").click()
    page.get_by_role("button", name="Retry jobs").click()
    expect(page.get_by_role("heading", name="Retry 3 jobs")).to_be_visible()
    assert page.url.startswith(f"{admin}/job/")
    wait_until(
        lambda: (
            asgi.rows("app", "SELECT count(*) FROM notifications_job WHERE state = 'failed' AND attempt = 2")
            == [(3,)]
        ),
        what="the jobs to run again",
    )


@pytest.mark.parametrize("asgi", ["daphne-uuid", "uvicorn-string"], indirect=True)
def test_bell(asgi, page):
    """Scripts, styles and modules load with the nonce. The count is updated live, and rendered on the next page."""
    sign_in(page, asgi)
    wait_until_live(page)
    expect_unread(page, 0)
    drawn = "getComputedStyle(document.querySelector('.notifications-button')).width"
    assert page.evaluate(drawn) == "52px", "the first styles were refused"
    expect(page.locator("link[rel=stylesheet]")).to_have_count(0)
    asgi.manage("notify", "boss", "Hello", "--url", "/app/en/")
    expect_unread(page, 1)
    expect(find_toasts(page)).to_have_count(1)
    assert find_toasts(page).evaluate("toast => getComputedStyle(toast).position") == "relative", (
        "no style sheet"
    )
    for path in ("notifications/", "admin/"):
        page.goto(f"{asgi.origin}/app/en/{path}")
        wait_until_live(page)
        expect_unread(page, 1)
    page.goto(f"{asgi.origin}/app/en/async/")
    wait_until_live(page)
    expect_unread(page, 1)
    result = page.evaluate(
        """async () => {
            const { ask } = await notifications.ready;
            return await ask("/app/en/export/function/2026/", { method: "POST" }).result;
        }"""
    )
    assert result == {"year": 2026}
    expect_unread(page, 2)
    open_bell(page).get_by_role("link", name="Export 2026").click()
    page.get_by_role("heading", name="Export 2026").wait_for()
    # The links in frames are the same for all clients, in LANGUAGE_CODE, which is German: the page has its own.
    assert "/app/en/notifications/jobs/" in page.url
    page.goto(f"{asgi.origin}/app/en/async/")
    expect_unread(wait_until_live(page), 1)
    open_bell(page).get_by_role("link", name="Hello").click()
    page.get_by_role("heading", name="Start").wait_for()
    expect_unread(wait_until_live(page), 0)
