"""Locators and actions of the browser tests, by accessible names."""

import re

import pytest
from playwright.sync_api import expect

from tests.support.browser import PAGE_TIMEOUT_MS, sign_in_over_http

#: Decorates journeys that hold in every browser.
in_each_browser = pytest.mark.parametrize(
    "browser",
    ["chromium", pytest.param("firefox", marks=[pytest.mark.slow, pytest.mark.nightly])],
    indirect=True,
)


def find_bell(page, unread=None):
    """Return the locator of the bell, with this unread count if one is given, and any unseen count."""
    count = (
        "" if unread is None else rf"(\d+ new, )?{unread or 'none'} unread(, \d+ waiting for your answer)?$"
    )
    return page.get_by_role("button", name=re.compile(f"^Notifications: {count}"))


def expect_unread(page, count, timeout=PAGE_TIMEOUT_MS):
    expect(find_bell(page, count)).to_be_visible(timeout=timeout)


def expect_unseen(page, count, timeout=PAGE_TIMEOUT_MS):
    """Expect this number on the badge of the bell, which is hidden without one."""
    badge = page.locator("notifications-bell .notifications-count")
    if count:
        expect(badge).to_have_text(str(count), timeout=timeout)
    else:
        expect(badge).to_be_hidden(timeout=timeout)


def find_toasts(page):
    return page.locator("notifications-toasts .notifications-toast")


def open_bell(page):
    """Open the bell and return the locator of its dialog."""
    find_bell(page).click()
    dialog = page.get_by_role("dialog", name="Notifications")
    expect(dialog).to_be_visible()
    return dialog


def wait_until_live(page):
    """Wait until the page, or the tab that leads, is connected."""
    return wait_for_state(page, "live")


def wait_for_state(page, state):
    """Wait until the client of the page has this state."""
    page.wait_for_function("() => window.notifications")
    page.evaluate(
        """async ([expected, milliseconds]) => {
            const { client } = await notifications.ready;
            if (client.state === expected) return;
            await new Promise((resolve, reject) => {
                client.on("state", (state) => state === expected && resolve());
                setTimeout(() => reject(new Error(`The client is ${client.state}, not ${expected}.`)), milliseconds);
            });
        }""",
        [state, PAGE_TIMEOUT_MS],
    )
    return page


def visit(page, site_url, path="/", username="demo"):
    """Sign in, open a page of the site and wait until it is connected."""
    sign_in_over_http(page.context, site_url, username)
    page.goto(site_url + path)
    return wait_until_live(page)


def create_report(page, site_url, urls, title):
    page.goto(f"{site_url}/reports/")
    page.get_by_label("URLs", exact=True).fill("\n".join(urls))
    page.get_by_label("Title").fill(title)
    page.get_by_role("button", name="Check URLs").click()
    page.wait_for_url(re.compile(r"/reports/[^/]+/$"))
    return page.url


def start_counting_toasts(page):
    """Count the toasts of this page from now on, for read_toast_count()."""
    page.evaluate(
        """() => {
            window.shownToasts = 0;
            addEventListener("notifications:toast", (event) => window.shownToasts += event.detail.length);
        }"""
    )


def read_toast_count(page):
    return page.evaluate("window.shownToasts")


def read_stored_titles(site, username="demo"):
    """Return the titles of all notifications of a user in the database."""
    return [
        title
        for (title,) in site.rows(
            "SELECT n.title FROM notifications_notification n JOIN auth_user u ON u.id = n.user_id "
            "WHERE u.username = ? ORDER BY n.raised",
            [username],
        )
    ]
