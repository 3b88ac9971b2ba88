"""The delivery promise in a browser: the user is notified once when a job is done, also after crashes and outages."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.parts import (
    create_report,
    expect_unread,
    find_bell,
    find_toasts,
    in_each_browser,
    open_bell,
    read_stored_titles,
    read_toast_count,
    start_counting_toasts,
    visit,
    wait_until_live,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser


def recorded_calls(site):
    return site.rows("SELECT COUNT(*) FROM asyncsite_call")[0][0]


def read_job(site):
    return site.rows("SELECT state, attempt FROM notifications_job ORDER BY id DESC")[0]


@in_each_browser
def test_a_report_notifies_on_another_page_and_opens_from_the_bell(site_server, new_page):
    """The toast and the unread count appear on the page that the user visits meanwhile, and not for another user."""
    site = site_server
    page, other_user = new_page(), new_page()
    visit(other_user, site.url, "/reports/", username="other")
    visit(page, site.url, "/reports/")
    page.get_by_role("button", name="Try it with sample URLs").click()
    expect(page.get_by_label("URLs", exact=True)).to_have_value(re.compile("/upstream/ok"))
    page.get_by_label("Title").fill("The samples")
    page.get_by_role("button", name="Check URLs").click()
    page.wait_for_url(re.compile(r"/reports/[^/]+/$"))
    report = page.url
    page.evaluate("notifications.ready.then(() => true)")  # Firefox logs modules that it was loading.
    page.goto(f"{site.url}/check/")
    expect(find_toasts(page)).to_have_count(1, timeout=60_000)
    expect(find_toasts(page)).to_contain_text("The samples")
    expect_unread(page, 1)
    assert "/check/" in page.url

    later = new_page()
    visit(later, site.url, "/check/")
    expect_unread(later, 1)
    expect(open_bell(later).get_by_role("link", name="The samples")).to_be_visible()

    open_bell(page).get_by_role("link", name="The samples").click()
    page.wait_for_url(report)
    expect(page.get_by_role("heading", name="The samples")).to_be_visible()
    expect(page.get_by_role("table")).to_be_visible()
    expect_unread(page, 0)
    expect_unread(later, 0)
    expect(find_bell(other_user, 0)).to_be_visible()
    expect(find_toasts(other_user)).to_have_count(0)


@pytest.mark.nightly
def test_a_killed_worker_is_replaced_and_the_user_is_notified_once(site, new_page):
    """The worker is killed during the job. A second worker finishes it, and the page shows attempt 2."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.start_web()
    page, other_page = new_page(), new_page()
    visit(other_page, site.url, "/check/")
    start_counting_toasts(other_page)
    visit(page, site.url)
    first = site.start_worker()
    create_report(page, site.url, site.held_urls(40), "Forty slow ones")
    site.release(5)
    wait_until(lambda: recorded_calls(site) == 5, what="five calls to be recorded")
    first.kill()
    assert read_job(site) == ("running", 1)
    site.start_worker()
    attempt = page.get_by_text(re.compile("attempt 2", re.IGNORECASE)).first  # also announced
    expect(attempt).to_be_visible(timeout=60_000)
    report = page.url
    page.goto(f"{site.url}/reports/")
    site.release()
    # A page that shows the end of a job marks its notification as read.
    expect(find_toasts(other_page)).to_have_count(1, timeout=60_000)
    expect_unread(other_page, 1)
    page.goto(report)
    expect(page.get_by_role("heading", name="40 of 40 passed")).to_be_visible()
    expect(attempt).to_be_visible()
    assert read_toast_count(other_page) == 1
    assert read_stored_titles(site) == ["Forty slow ones finished"]
    assert read_job(site) == ("succeeded", 2)
    assert recorded_calls(site) == 40


@pytest.mark.nightly_names("*[chromium]")
@in_each_browser
def test_a_page_survives_a_killed_web_server(site, new_page):
    """The web process is killed during the job. The open page reconnects by itself and shows the result."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.start_web()
    site.start_worker()
    page = new_page(errors=False)
    visit(page, site.url)
    create_report(page, site.url, site.held_urls(40), "Through a crash")
    wait_until_live(page)
    site.release(5)
    wait_until(lambda: recorded_calls(site) == 5, what="five calls to be recorded")
    assert read_job(site)[0] == "running"
    site.web.kill()
    wait_until(lambda: read_job(site)[0] == "succeeded", what="the job to end")
    site.start_web()
    expect(page.get_by_role("heading", name=re.compile("of 40 passed$"))).to_be_visible(timeout=60_000)
    assert read_stored_titles(site) == ["Through a crash finished"]
    read = "SELECT count(*) FROM notifications_notification WHERE read_at IS NOT NULL"
    wait_until(
        lambda: site.rows(read) == [(1,)], what="the page that shows the end of the job to mark it as read"
    )


@in_each_browser
def test_a_job_that_ends_during_an_outage_notifies_after_it(site_server, proxy, new_page):
    """The connection is cut while the job ends. After it is restored there is one toast."""
    site = site_server
    page = new_page(errors=False)
    visit(page, proxy.url)
    create_report(page, proxy.url, site.held_urls(1), "Ended during the outage")
    page.goto(f"{proxy.url}/check/")
    wait_until_live(page)
    start_counting_toasts(page)
    wait_until(lambda: read_job(site)[0] == "running", what="the job to run")
    proxy.cut()
    site.release()
    wait_until(lambda: read_job(site)[0] == "succeeded", what="the job to end")
    expect(find_toasts(page)).to_have_count(0)
    proxy.restore()
    page.evaluate("dispatchEvent(new Event('online'))")  # As a browser does when its network is back.
    wait_until(lambda: read_toast_count(page) == 1, what="the toast")
    expect_unread(page, 1)
    site.manage("notify", "demo", "Another one")
    expect_unread(page, 2)
    wait_until(
        lambda: read_toast_count(page) >= 2, what="the second toast"
    )  # The first toast may have disappeared by then.
    assert read_toast_count(page) == 2


def test_the_client_reconnects_without_an_event_of_the_browser(site_server, proxy, new_page):
    """It reconnects by its timer, and shows once what it missed."""
    site = site_server
    page = new_page(errors=False)
    visit(page, proxy.url, "/check/")
    start_counting_toasts(page)
    proxy.cut()
    site.manage("notify", "demo", "Ended during the outage")
    proxy.restore()
    expect(find_toasts(page)).to_have_count(1)
    expect_unread(page, 1)
    assert read_toast_count(page) == 1
