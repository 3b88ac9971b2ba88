"""What the browser tests look at and do, by the names that a person would use."""

import re

from playwright.sync_api import expect

from tests.support.browser import PAGE_TIMEOUT_MS, sign_in


def bell(page, unread=None):
    """The bell, with that many unread if a number is given."""
    any_count = re.compile("^Notifications: ")
    name = any_count if unread is None else f"Notifications: {unread or 'none'} unread"
    return page.get_by_role("button", name=name, exact=True)


def expect_unread(page, count, timeout=PAGE_TIMEOUT_MS):
    expect(bell(page, count)).to_be_visible(timeout=timeout)


def toasts(page):
    return page.locator("notifications-toasts .notifications-toast")


def panel(page):
    """Open the bell and return what it shows."""
    bell(page).click()
    dialog = page.get_by_role("dialog", name="Notifications")
    expect(dialog).to_be_visible()
    return dialog


def live(page):
    """Wait until the page has its connection, or hears of the one that another tab has."""
    return becomes(page, "live")


def becomes(page, state):
    """Wait until the page's client has this state."""
    page.wait_for_function("() => window.notifications")
    page.evaluate(
        """async (wanted) => {
            const { client } = await notifications.ready;
            if (client.state === wanted) return;
            await new Promise((resolve) => client.on("state", (state) => state === wanted && resolve()));
        }""",
        state,
    )
    return page


def visit(page, site_url, path="/", username="demo"):
    """Sign in, open a page of the site and wait until it is connected."""
    sign_in(page, site_url, username)
    page.goto(site_url + path)
    return live(page)


def ask_for_report(page, site_url, urls, title):
    page.goto(f"{site_url}/reports/")
    page.get_by_label("URLs", exact=True).fill("\n".join(urls))
    page.get_by_label("Title").fill(title)
    page.get_by_role("button", name="Check URLs").click()
    page.wait_for_url(re.compile(r"/reports/[^/]+/$"))
    return page.url


def count_toasts(page):
    """Count every toast that is ever shown in this page from now on; read it with shown_toasts(page)."""
    page.evaluate(
        """() => {
            window.shownToasts = 0;
            addEventListener("notifications:toast", (event) => window.shownToasts += event.detail.length);
        }"""
    )


def shown_toasts(page):
    return page.evaluate("window.shownToasts")


def told(site, username="demo"):
    """Titles of what a user was ever told, from the database."""
    return [
        title
        for (title,) in site.rows(
            "SELECT n.title FROM notifications_notification n JOIN auth_user u ON u.id = n.user_id "
            "WHERE u.username = ? ORDER BY n.raised",
            [username],
        )
    ]
