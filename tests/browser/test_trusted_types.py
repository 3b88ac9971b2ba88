"""Pages work with `require-trusted-types-for 'script'`, whether or not the policy allows one of the app's name."""

import pytest
from playwright.sync_api import expect

from tests.browser.all_pages import open_composer, start_with_push
from tests.browser.parts import create_report, visit, wait_until_live
from tests.browser.test_inbox import CREATE, message, row, rows, wait_for_keys
from tests.browser.test_push import open_devices, turn_on  # noqa: F401 (a fixture)
from tests.browser.test_reading_pane import click_beside, expect_shown
from tests.support.browser import sign_in_over_http

pytestmark = [pytest.mark.browser, pytest.mark.nightly_names("*[; trusted-types notifications]", "*[]")]


@pytest.fixture(params=["", "; trusted-types notifications", "; trusted-types 'none'"])
def strict_site(site, request):
    """A site whose policy lets no script make elements or addresses of scripts from a text."""
    site.environment["TEST_CSP"] = f"require-trusted-types-for 'script'{request.param}"
    return start_with_push(site)


@pytest.fixture
def push_site(strict_site):
    """The site of `open_devices`."""
    return strict_site


def test_inbox(strict_site, new_page):
    """The inbox loads its pane, older rows, what is searched for and the counts of its views, and logs no error.

    tests/browser/test_layout_shift.py opens each page with this policy.
    """
    page = new_page(viewport={"width": 1280, "height": 800})
    strict_site.python(CREATE.format(count=60))
    sign_in_over_http(page.context, strict_site.url)
    response = page.goto(f"{strict_site.url}/notifications/")
    assert "require-trusted-types-for 'script'" in response.header_value("content-security-policy")
    wait_for_keys(page)
    expect_shown(page, "Number 60")
    click_beside(page, "Number 59")
    expect_shown(page, "Number 59")
    count = rows(page).count()
    page.locator("[data-end]").scroll_into_view_if_needed()
    expect(rows(page).nth(count)).to_be_attached()
    page.get_by_role("searchbox").fill("Number 17")
    expect(rows(page)).to_have_count(1)
    row(page, "Number 17").hover()
    page.get_by_role("button", name="Done: Number 17").click()
    expect(message(page)).to_be_visible()


@pytest.mark.nightly
def test_report(strict_site, page):
    """The page of a report changes while its job runs."""
    visit(page, strict_site.url)
    page.goto(create_report(page, strict_site.url, strict_site.held_urls(2), "Held"))
    wait_until_live(page)
    strict_site.release()
    expect(page.get_by_role("heading", name="2 of 2 passed")).to_be_visible()


@pytest.mark.nightly
def test_admin(strict_site, new_page):
    """The overview shows new figures, and the composer the message. Django's own scripts log errors there."""
    page = new_page(errors=False)
    open_composer(strict_site, page)
    page.goto(f"{strict_site.url}/admin/notifications_operations/overview/")
    page.evaluate("document.querySelector('[data-overview-figures] *').dataset.isOld = ''")
    strict_site.manage("notify", "demo", "Hello")
    expect(page.locator("[data-is-old]")).to_have_count(0)


@pytest.mark.nightly
def test_devices(open_devices, site):  # noqa: F811
    """The service worker is registered with the policy of the app, and where that is not allowed the page says so."""
    page = open_devices(errors="'none'" not in site.environment["TEST_CSP"])
    if "'none'" not in site.environment["TEST_CSP"]:
        return turn_on(page)
    page.get_by_role("button", name="Turn on in this browser").click()
    expect(page.locator("#main").get_by_role("status")).not_to_be_empty()
