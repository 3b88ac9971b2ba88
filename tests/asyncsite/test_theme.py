"""The theme that a user chooses in the footer: System, Light or Dark, also for the bell and Django's admin."""

import pytest
from playwright.sync_api import expect

from tests.support.browser import sign_in

pytestmark = pytest.mark.browser

SCHEME = "(selector) => getComputedStyle(document.querySelector(selector)).colorScheme"
#: Of the elements of the page when it is parsed, before it is painted.
RECORD = (
    "addEventListener('DOMContentLoaded', () => window.themeAtFirst = document.documentElement.dataset.theme)"
)


def scheme(page, selector="html"):
    return page.evaluate(SCHEME, selector)


def background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_the_theme_is_kept_and_set_before_the_page_is_painted(site_server, new_page):
    """On all pages of the site, whatever the system prefers, until the user chooses the system again."""
    page = new_page(color_scheme="light")
    page.add_init_script(RECORD)
    sign_in(page, site_server.url)
    light = background(page)
    themes = page.get_by_role("group", name="Theme")
    expect(themes.get_by_role("button", name="System", pressed=True)).to_be_visible()
    themes.get_by_role("button", name="Dark").click()
    expect(themes.get_by_role("button", pressed=True)).to_have_text("Dark")
    dark = background(page)
    assert dark != light
    for path in ("/check/", "/notifications/", "/accounts/login/"):
        page.goto(site_server.url + path)
        assert page.evaluate("themeAtFirst") == "dark"
        assert (scheme(page), background(page)) == ("dark", dark)
    page.goto(f"{site_server.url}/reports/")
    assert scheme(page, "notifications-bell") == "dark"
    page.emulate_media(color_scheme="dark")
    themes.get_by_role("button", name="Light").click()
    assert (scheme(page), scheme(page, "notifications-bell"), background(page)) == ("light", "light", light)
    themes.get_by_role("button", name="System").click()
    assert page.evaluate("document.documentElement.dataset.theme") is None
    assert background(page) == dark
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert scheme(page) == "light", "Paper is white."


def test_other_tabs_follow(site_server, new_page):
    page = new_page(color_scheme="light")
    sign_in(page, site_server.url)
    other = page.context.new_page()
    other.goto(f"{site_server.url}/check/")
    page.get_by_role("group", name="Theme").get_by_role("button", name="Dark").click()
    expect(other.locator("html[data-theme=dark]")).to_have_count(1)
    expect(other.get_by_role("group", name="Theme").get_by_role("button", pressed=True)).to_have_text("Dark")


@pytest.mark.nightly
def test_without_javascript_the_page_follows_the_system_and_offers_no_choice(site_server, new_page):
    page = new_page(java_script_enabled=False, color_scheme="dark")
    page.goto(f"{site_server.url}/accounts/login/")
    expect(page.get_by_role("button", name="Deutsch")).to_be_visible()
    expect(page.get_by_role("group", name="Theme")).to_have_count(0)


def test_the_bell_follows_the_theme_of_the_admin(site_server, new_page):
    """The admin and the site keep the choice in the same place. The bell itself is in a dark bar, whatever it is."""
    page = new_page(errors=False, color_scheme="dark")  # The admin has no favicon.
    sign_in(page, site_server.url, "admin")
    page.goto(f"{site_server.url}/admin/")
    toggle = page.get_by_role("button", name="Toggle theme").first
    expect(page.locator("html")).to_have_attribute("data-theme", "auto")
    assert scheme(page, "notifications-toasts") == scheme(page)
    toggle.click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    assert scheme(page, "notifications-toasts") == "light"
    page.goto(f"{site_server.url}/reports/")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.goto(f"{site_server.url}/admin/")
    page.get_by_role("button", name="Toggle theme").first.click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert scheme(page, "notifications-toasts") == "dark"
