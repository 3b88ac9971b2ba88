"""The project `everything` in Chromium, which logs each violation of the Content-Security-Policy."""

import django
import pytest
from playwright.sync_api import expect

from tests.browser.parts import expect_unread, find_toasts, open_bell, wait_until_live

# Without the marker on Django 5.2, so that it is not deselected with other browser tests: nonces differ there.
pytestmark = [pytest.mark.browser] if django.VERSION >= (6, 0) else []


@pytest.mark.parametrize("asgi", ["daphne-uuid", "uvicorn-string"], indirect=True)
def test_bell(asgi, page):
    """Scripts, styles and modules load with the nonce. The count is updated live, and rendered on the next page."""
    page.goto(f"{asgi.origin}/app/en/sign-in/")
    page.get_by_label("Username").fill("boss")
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Start").wait_for()
    wait_until_live(page)
    expect_unread(page, 0)
    asgi.manage("notify", "boss", "Hello", "--url", "/app/en/")
    expect_unread(page, 1)
    expect(find_toasts(page)).to_have_count(1)
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
    expect_unread(wait_until_live(page), 1)
    open_bell(page).get_by_role("link", name="Hello").click()
    page.get_by_role("heading", name="Start").wait_for()
    expect_unread(wait_until_live(page), 0)
    drawn = page.evaluate("getComputedStyle(document.querySelector('.notifications-icon')).maskImage")
    assert "bell" in drawn, "the style sheet was refused"
