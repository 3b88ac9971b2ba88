"""What an open page requests by itself does not prolong its session with `SESSION_SAVE_EVERY_REQUEST`."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.parts import find_bell, open_bell, visit, wait_until_live
from tests.browser.test_inbox import CREATE, wait_for_keys
from tests.browser.test_reading_pane import click_beside, expect_shown
from tests.support.driver import driver
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

#: Marks a notification in another place.
MARK = """
from notifications.models import Notification
from notifications.streams.marking import mark
row = Notification.objects.get(title="Number 2")
mark(row.user_id, "read", row.raised, [row.pk])
"""


@pytest.fixture
def saving_site(site):
    site.environment |= {"TEST_SAVE_SESSIONS": "1", "EMBEDDED_WORKER": "0"}
    site.start_web()
    return site


class Responses:
    """The responses to a page from now on: which of them have saved the session."""

    def __init__(self, page):
        self.page, self.responses = page, []
        page.on("response", lambda response: self.responses.append(response))

    def paths(self, *, is_saved):
        """Return the paths of the responses with a cookie of the session, or without."""
        own = [each for each in self.responses if "/static/" not in each.url]
        return [
            each.url.partition("//")[2].partition("/")[2]
            for each in own
            if ("sessionid=" in (each.header_value("set-cookie") or "")) is is_saved
        ]

    def wait_for(self, part):
        """Wait until a response to an address with this part has come without saving the session."""
        wait_until(
            lambda: (
                self.page.wait_for_timeout(20) or any(part in each for each in self.paths(is_saved=False))
            ),
            what=f"a response to {part}",
        )


@pytest.mark.nightly
def test_an_open_inbox(saving_site, new_page):
    """It marks as seen, updates counts and pane, and asks for changes on focus; a click in the list is a person's."""
    saving_site.python(CREATE.format(count=2))
    page = new_page(viewport={"width": 1280, "height": 800})
    visit(page, saving_site.url, "/check/")
    wait_until_live(page)
    responses = Responses(page)
    page.goto(f"{saving_site.url}/notifications/")
    wait_for_keys(page)
    expect_shown(page, "Number 2")
    responses.wait_for("/seen/")
    saving_site.python(MARK)
    responses.wait_for("part=views")
    responses.wait_for("part=pane")
    page.evaluate("dispatchEvent(new Event('focus'))")
    responses.wait_for("/sync/")
    assert responses.paths(is_saved=True) == ["notifications/"]
    click_beside(page, "Number 1")
    expect_shown(page, "Number 1")
    saved = responses.paths(is_saved=True)
    assert any("part=pane" in path and "background" not in path for path in saved)


def test_the_first_row_of_an_empty_inbox(saving_site, new_page):
    """The list is loaded again for it."""
    page = new_page()
    visit(page, saving_site.url, "/check/")
    wait_until_live(page)
    responses = Responses(page)
    page.goto(f"{saving_site.url}/notifications/")
    wait_for_keys(page)
    saving_site.python(CREATE.format(count=1))
    expect(page.locator("notifications-inbox li", has_text="Number 1")).to_be_visible()
    assert responses.paths(is_saved=True) == ["notifications/"]


@pytest.mark.nightly
def test_an_open_bell_after_an_outage(saving_site, new_page):
    """It loads its list again when the server is back."""
    page = new_page(errors=False)  # Chromium logs the requests without a response.
    visit(page, saving_site.url, "/check/")
    wait_until_live(page)
    lists = re.compile(r"/api/notifications/\?.*limit=")
    page.route(lists, lambda route: route.abort())
    panel = open_bell(page)
    expect(panel.get_by_role("button", name="Try again")).to_be_visible()
    saving_site.web.kill()
    expect(page.locator("notifications-bell")).to_have_attribute("data-state", "offline")
    page.unroute(lists)
    responses = Responses(page)
    saving_site.start_web()
    wait_until(
        lambda: page.wait_for_timeout(20) or any("limit=" in each.url for each in responses.responses),
        what="the list of the bell",
    )
    assert not any("limit=" in path for path in responses.paths(is_saved=True))


@pytest.mark.nightly
def test_an_open_job(saving_site, new_page):
    """Its output streams; opening the bell is a person's."""
    with driver(saving_site, "tests.browser.output_actions") as writer:
        job = writer.call("start_job")
        page = new_page()
        visit(page, saving_site.url, "/check/")
        wait_until_live(page)
        responses = Responses(page)
        page.goto(f"{saving_site.url}/notifications/jobs/{job}/")
        wait_until_live(page)
        writer.call("write", id=job, text="First line\n")
        expect(page.locator("notifications-output pre")).to_contain_text("First line")
        responses.wait_for("live=sse")
        assert [path for path in responses.paths(is_saved=True) if "/api/" in path] == []
        expect(find_bell(page)).to_be_visible()
        open_bell(page)
        wait_until(
            lambda: (
                page.wait_for_timeout(20) or any("limit=" in path for path in responses.paths(is_saved=True))
            ),
            what="the list of the bell",
        )


@pytest.mark.nightly
def test_the_overview(saving_site, new_page):
    """It requests its figures each second."""
    page = new_page()
    visit(page, saving_site.url, "/admin/notifications_operations/overview/", username="admin")
    responses = Responses(page)
    responses.wait_for("figures/")
    assert responses.paths(is_saved=True) == []
