"""A person asks for something slow, goes on, and is told when it is done; whatever crashes or is cut meanwhile."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.parts import (
    ask_for_report,
    bell,
    count_toasts,
    expect_unread,
    live,
    panel,
    shown_toasts,
    toasts,
    told,
    visit,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser


def recorded_calls(site):
    return site.rows("SELECT COUNT(*) FROM asyncsite_call")[0][0]


def job_of(site):
    return site.rows("SELECT state, attempt FROM notifications_job ORDER BY id DESC")[0]


def test_asked_left_told_and_opened_from_the_bell(site_server, new_page):
    """The samples are checked while the person is elsewhere; toast and count come there; others hear nothing."""
    site = site_server
    page, stranger = new_page(), new_page()
    visit(stranger, site.url, "/reports/", username="other")
    visit(page, site.url, "/reports/")
    page.get_by_role("button", name="Try it with sample URLs").click()
    expect(page.get_by_label("URLs", exact=True)).to_have_value(re.compile("/upstream/ok"))
    page.get_by_label("Title").fill("The samples")
    page.get_by_role("button", name="Check URLs").click()
    page.wait_for_url(re.compile(r"/reports/[^/]+/$"))
    report = page.url
    page.goto(f"{site.url}/check/")
    expect(toasts(page)).to_have_count(1, timeout=60_000)
    expect(toasts(page)).to_contain_text("The samples")
    expect_unread(page, 1)
    assert "/check/" in page.url

    later = new_page()
    visit(later, site.url, "/check/")
    expect_unread(later, 1)
    expect(panel(later).get_by_role("link", name="The samples")).to_be_visible()

    panel(page).get_by_role("link", name="The samples").click()
    page.wait_for_url(report)
    expect(page.get_by_role("heading", name="The samples")).to_be_visible()
    expect(page.get_by_role("table")).to_be_visible()
    expect_unread(page, 0)
    expect_unread(later, 0)
    expect(bell(stranger, 0)).to_be_visible()
    expect(toasts(stranger)).to_have_count(0)


def test_a_killed_worker_is_replaced_and_the_person_is_told_once(site, new_page):
    """kill -9 of the worker in the middle; a second one finishes; one notification; the page shows attempt 2."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.start_web()
    page, elsewhere = new_page(), new_page()
    visit(elsewhere, site.url, "/check/")
    count_toasts(elsewhere)
    visit(page, site.url)
    first = site.start_worker()
    slow = [f"{site.url}/upstream/slow?s=1&n={number}" for number in range(40)]
    ask_for_report(page, site.url, slow, "Forty slow ones")
    wait_until(lambda: recorded_calls(site) >= 5, what="some calls to be recorded")
    first.kill()
    assert job_of(site) == ("running", 1)
    recorded = recorded_calls(site)
    assert recorded < 40
    site.start_worker()
    expect(page.locator("notifications-progress p")).to_contain_text("attempt 2 of", timeout=60_000)
    expect(toasts(elsewhere)).to_have_count(1, timeout=60_000)
    expect(page.get_by_role("table")).to_be_visible(timeout=60_000)
    expect(page.get_by_text(re.compile("attempt 2", re.I))).to_be_visible()
    expect_unread(elsewhere, 1)
    assert shown_toasts(elsewhere) == 1
    assert told(site) == ["Forty slow ones"]
    assert job_of(site) == ("succeeded", 2)
    assert recorded_calls(site) == 40


def test_a_killed_web_server_is_waited_for(site, new_page):
    """kill -9 of the web process in the middle; the page stays open, reconnects by itself and shows the end."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.start_web()
    site.start_worker()
    page = new_page(errors=False)
    visit(page, site.url)
    slow = [f"{site.url}/upstream/slow?s=1&n={number}" for number in range(40)]
    ask_for_report(page, site.url, slow, "Through a crash")
    live(page)
    wait_until(lambda: recorded_calls(site) >= 5, what="some calls to be recorded")
    assert job_of(site)[0] == "running"
    site.web.kill()
    wait_until(lambda: job_of(site)[0] == "succeeded", what="the job to end")
    site.start_web()
    expect(page.get_by_role("table")).to_be_visible(timeout=60_000)
    expect_unread(page, 1)
    assert told(site) == ["Through a crash"]


def test_what_ends_while_the_network_is_away_is_told_when_it_is_back(site_server, proxy, new_page):
    """The connection is cut while the work finishes, and comes back: told within 5 s, once."""
    site = site_server
    page = new_page(errors=False)
    visit(page, proxy.url)
    slow = [f"{site.url}/upstream/slow?s=1&n={number}" for number in range(20)]
    ask_for_report(page, proxy.url, slow, "Ended in the dark")
    page.goto(f"{proxy.url}/check/")
    live(page)
    count_toasts(page)
    wait_until(lambda: job_of(site)[0] == "running", what="the job to run")
    proxy.cut()
    wait_until(lambda: job_of(site)[0] == "succeeded", what="the job to end")
    expect(toasts(page)).to_have_count(0)
    proxy.restore()
    page.evaluate("dispatchEvent(new Event('online'))")  # as a browser does when its network is back
    expect(toasts(page)).to_have_count(1, timeout=10_000)
    expect_unread(page, 1)
    site.manage("notify", "demo", "Another one")
    expect_unread(page, 2)
    wait_until(lambda: shown_toasts(page) >= 2, what="the second toast")  # by then the first may have left
    assert shown_toasts(page) == 2


def test_a_short_cut_needs_no_word_from_the_browser(site_server, proxy, new_page):
    """Without any event of the browser the client comes back by itself, and tells what it missed once."""
    site = site_server
    page = new_page(errors=False)
    visit(page, proxy.url, "/check/")
    count_toasts(page)
    proxy.cut()
    site.manage("notify", "demo", "Ended in the dark")
    proxy.restore()
    expect(toasts(page)).to_have_count(1)
    expect_unread(page, 1)
    assert shown_toasts(page) == 1
