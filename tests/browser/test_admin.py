"""The admin's pages beside a running worker: live, by the keyboard, light and dark, and accessible."""

import os
import re

import pytest
from playwright.sync_api import expect

from tests.support.axe import find_violations
from tests.support.browser import sign_in
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

ADMIN, OVERVIEW = "/admin/notifications/", "/admin/notifications_operations/overview/"
FAILED = 25

ENQUEUE = """
from datetime import timedelta
from django.contrib.auth import get_user_model
from django.utils import timezone
from tests.jobs import tasks
owner = get_user_model().objects.get(username="demo")
for number in range({count}):
    tasks.{task}.using(owner=owner, title=f"{title} {{number}}", {options}).enqueue()
"""


def enqueue(site, count, task="fail", title="Send receipt", options=""):
    site.python(ENQUEUE.format(count=count, task=task, title=title, options=options))


def count_jobs(site, **conditions):
    where = " AND ".join(f"{name} = ?" for name in conditions)
    return site.rows(f"SELECT count(*) FROM notifications_job WHERE {where}", list(conditions.values()))[0][0]


@pytest.fixture
def admin_site(site):
    """A running site with failed jobs and a schedule."""
    site.notifications["SCHEDULES"] = {
        "nightly-report": {"task": "tests.jobs.tasks.noop", "cron": "0 3 * * *", "timezone": "Europe/Berlin"},
    }
    site.start_web()
    enqueue(site, FAILED)
    wait_until(lambda: count_jobs(site, state="failed") == FAILED, what="all jobs to fail")
    return site


@pytest.fixture
def admin_page(admin_site, new_page):
    page = new_page(errors=False)  # The admin has no favicon.
    return sign_in(page, admin_site.url, "admin")


#: Moves the focus to the third element before or after one that a key reaches, unless the page has just replaced it.
MOVE_NEAR = """(element, step) => {
    if (!element.isConnected) return false;
    const all = [...document.querySelectorAll("a[href], button, input, select, summary")].filter(
        (each) => each.tabIndex >= 0 && !each.disabled && each.checkVisibility()
    );
    all[Math.min(Math.max(all.indexOf(element) + 3 * step, 0), all.length - 1)].focus();
    return true;
}"""


def press_until_focused(page, locator, key="Tab", *, from_start=False):
    """Press a key until an element has the focus, from near it or from the start of the page."""
    if not from_start:
        wait_until(
            lambda: locator.evaluate(MOVE_NEAR, 1 if "Shift" in key else -1), what="the element to stay"
        )
    for _ in range(150 if from_start else 6):
        if locator.evaluate("element => element === document.activeElement"):
            return locator
        page.keyboard.press(key)
    raise AssertionError(f"{locator} cannot be reached with {key}.")


def shoot(page, name):
    """Save screenshots into the folder of SHOTS, if that is set."""
    folder = os.environ.get("SHOTS")
    for scheme, width in (("light", 1280), ("dark", 1280), ("light", 390)) if folder else ():
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        page.screenshot(path=f"{folder}/{name}-{scheme}-{width}.png", full_page=True)


@pytest.mark.smoke
def test_retry_of_a_group_on_the_live_overview(admin_site, admin_page):
    """New failures appear without a reload. Their retry asks first, is followed to its end, and changes all of them."""
    page = admin_page
    page.goto(f"{admin_site.url}{OVERVIEW}")
    button = page.get_by_role("button", name=f"Retry these {FAILED}")
    expect(button).to_be_visible()
    enqueue(admin_site, 5)
    button = page.get_by_role("button", name=f"Retry these {FAILED + 5}")
    expect(button).to_be_visible()
    press_until_focused(page, page.get_by_role("button", name=re.compile("^Retry these")))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=f"Retry {FAILED + 5} jobs?")).to_be_visible()
    press_until_focused(page, page.get_by_role("button", name="Retry jobs"))
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/job/[^/]+/change/$"))
    expect(page.get_by_role("heading", name=f"Retry {FAILED + 5} jobs", exact=True)).to_be_visible()
    end_of_job(page)
    expect(page.get_by_text(f"{FAILED + 5} queued again, 0 skipped.").first).to_be_visible()
    wait_until(lambda: count_jobs(admin_site, attempt=2) == FAILED + 5, what="all jobs to run again")


def end_of_job(page):
    """Wait until the page of a job shows that it has ended, if it was loaded before that."""
    if page.locator("[data-overview-figures]").count():
        expect(page.locator("[data-overview-final]")).to_be_attached()


@pytest.mark.nightly
def test_page_of_a_job_is_live_until_its_end(admin_site, admin_page):
    """State, times, attempts and buttons follow the job, but not what has the focus; then nothing is requested."""
    page = admin_page
    enqueue(
        admin_site,
        1,
        "hold_until_cancelled",
        "Close the month",
        "run_after=timezone.now() + timedelta(days=1)",
    )
    [(id,)] = admin_site.rows("SELECT id FROM notifications_job WHERE run_after IS NOT NULL")
    requests = []
    page.on("request", lambda request: requests.append(request.url) if "/state/" in request.url else None)
    page.clock.install()
    page.goto(f"{admin_site.url}{ADMIN}job/{id}/change/")
    now, cancel = (page.get_by_role("button", name=f"{verb} this job") for verb in ("Run", "Cancel"))
    expect(page.locator(".fieldBox.field-state_now")).to_contain_text("Queued")
    started = page.locator(".fieldBox.field-started .readonly")
    expect(started).to_be_hidden()
    cancel.focus()

    listed, other = page.context.new_page(), page.context.new_page()
    listed.goto(f"{admin_site.url}{ADMIN}job/?q=Close")
    expect(listed.locator(".state")).to_contain_text("Queued")
    other.goto(f"{admin_site.url}{ADMIN}job/{id}/change/")
    other.get_by_role("button", name="Run this job now").click()
    follow(page, lambda: "Running" in page.locator(".fieldBox.field-state_now").inner_text())
    expect(started).to_be_visible()
    expect(now).to_be_visible()
    expect(cancel).to_be_focused()
    cancel.blur()
    follow(page, lambda: not now.count())

    other.goto(f"{admin_site.url}{ADMIN}job/{id}/change/")
    other.get_by_role("button", name="Cancel this job").click()
    other.get_by_text("Requested cancellation").wait_for()
    follow(page, lambda: page.locator("[data-overview-final]").count())
    expect(page.locator(".fieldBox.field-state_now")).to_contain_text("Cancelled")
    expect(page.locator("#job-part-attempts tbody th")).to_have_text("1")
    expect(cancel).to_have_count(0)
    expect(listed.locator(".state")).to_have_text("Cancelled")
    before = len(requests)
    page.clock.run_for(60_000)
    page.evaluate(
        "fetch('/').then((response) => response.text())"
    )  # A request takes longer than to begin one.
    assert len(requests) == before


def follow(page, condition):
    """Let time pass on a page until it shows something."""

    def is_shown():
        page.clock.run_for(1_000)
        return condition()

    wait_until(is_shown, what="the change on the page")


@pytest.mark.nightly
def test_filter_and_change_with_the_keyboard(admin_site, admin_page):
    """Filter, select all of all pages, retry and confirm; then cancel all of a search."""
    page = admin_page
    enqueue(admin_site, 30)
    count = FAILED + 30
    wait_until(lambda: count_jobs(admin_site, state="failed") == count, what="all jobs to fail")
    page.goto(f"{admin_site.url}{ADMIN}job/")
    press_until_focused(page, page.get_by_role("link", name=f"Failed ({count})"), from_start=True)
    page.keyboard.press("Enter")
    page.wait_for_url("**state__exact=failed")
    select_all_and(page, "Retry selected jobs")
    expect(page.get_by_role("heading", name=f"Retry {count} jobs?")).to_be_visible()
    shoot(page, "confirm")
    assert find_violations(page, "#content", DJANGO) == []
    press_until_focused(page, page.get_by_role("button", name="Retry jobs"))
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/job/[^/]+/change/$"))
    end_of_job(page)
    wait_until(lambda: count_jobs(admin_site, attempt=2) == count, what="all jobs to run again")

    later = "run_after=timezone.now() + timedelta(days=1)"
    enqueue(admin_site, 60, "noop", "Rebuild index", later)
    page.goto(f"{admin_site.url}{ADMIN}job/")
    press_until_focused(page, page.locator("#searchbar"))
    page.keyboard.type("Rebuild")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=Rebuild")
    select_all_and(page, "Cancel selected jobs")
    press_until_focused(page, page.get_by_role("button", name="Cancel jobs"))
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/job/[^/]+/change/$"))
    wait_until(lambda: count_jobs(admin_site, state="cancelled") == 60, what="all jobs to be cancelled")


@pytest.mark.nightly
def test_list_of_jobs_fits_beside_sidebar_and_filters(admin_site, admin_page):
    """Without scrolling sideways, also with long titles, names and states, and German headings; and on a phone."""
    page = admin_page
    title = "Export of all orders of the year 2026 with their invoices for the accountant"
    enqueue(admin_site, 2, title=title, options="queue_name='slow'")
    enqueue(admin_site, 2, "noop", "Later", "run_after=timezone.now() + timedelta(days=400)")
    for language, widths in (("en", (360, 768, 1000, 1280, 1366)), ("de", (1280, 1366))):
        cookie = {"name": "django_language", "value": language, "url": admin_site.url}
        page.context.add_cookies([cookie])
        page.goto(f"{admin_site.url}{ADMIN}job/")
        page.get_by_text(f"{title} 1").wait_for()
        for width in widths:
            page.set_viewport_size({"width": width, "height": 800})
            expect(page.locator("#nav-sidebar")).to_be_visible(visible=width > 767)
            expect(page.locator("#changelist-filter")).to_be_visible()
            for selector in ("#changelist-form .results", "#changelist", "html"):
                excess = page.locator(selector).evaluate(EXCESS)
                assert excess <= 0, f"{selector} is {excess} px too wide at {width}, {language}"
            if width == 1000:  # The filters are below the list, and as wide.
                filters, rows = (
                    page.locator(s).bounding_box() for s in ("#changelist-filter", "#changelist-form")
                )
                assert filters["y"] > rows["y"] and filters["width"] == rows["width"]
    shoot(page, "jobs-beside-sidebar")
    page.emulate_media(media="print")
    for selector in ("#header", "#nav-sidebar", "#changelist-filter", "#changelist-search"):
        expect(page.locator(selector)).to_be_hidden()
    expect(page.get_by_text(f"{title} 1")).to_be_visible()


def select_all_and(page, action):
    """Select all jobs of a list of several pages, and choose an action."""
    press_until_focused(page, page.locator("#action-toggle"))
    page.keyboard.press("Space")
    question = page.locator(".actions .question a")
    expect(question).to_be_visible()
    press_until_focused(page, question, "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".actions .clear")).to_be_visible()
    select = page.get_by_label("Action:")
    press_until_focused(page, select, "Shift+Tab")
    page.keyboard.type(action)
    expect(select).to_have_value(re.compile("jobs"))
    press_until_focused(page, page.get_by_role("button", name=re.compile("^(Go|Run)$")))
    page.keyboard.press("Enter")


#: By how much the content of an element is wider than the element.
EXCESS = "(element) => element.scrollWidth - element.clientWidth"

#: The places of parts of the page of a job, from the upper edge.
TOPS = """() => Object.fromEntries(["actions", "outcome", "attempts", "fields"].map(
    (name) => [name, document.querySelector(`#job-part-${name} > *`).getBoundingClientRect().top]))"""


def test_pages_of_operators_fit(admin_site, admin_page):
    """On a phone and beside the sidebar: a failed job, whose actions and outcome come first, limits and figures."""
    page = admin_page
    admin_site.python(CREATE_LIMITS)
    [(job,)] = admin_site.rows("SELECT id FROM notifications_job WHERE state = 'failed' LIMIT 1")
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(f"{admin_site.url}{ADMIN}job/{job}/change/")
        tops = page.evaluate(TOPS)
        assert [*tops] == sorted(tops, key=tops.get), tops
        assert tops["actions"] < 360
        expect(page.get_by_text("Deadline:")).to_be_hidden()  # It has no value.
        for part in page.locator(".results").all():
            assert part.evaluate(EXCESS) == 0, f"the table of attempts is cut at {width} px"
        page.goto(f"{admin_site.url}/admin/notifications_rates/limit/")
        expect(page.get_by_text("accounts:4711")).to_be_visible()
        assert page.locator(".results").evaluate(EXCESS) == 0, f"the limits are cut at {width} px"
    page.goto(admin_site.url + OVERVIEW)
    for width in (360, 480, 640, 768, 1000, 1280, 1680):
        page.set_viewport_size({"width": width, "height": 800})
        tiles = page.locator(".tiles > div").evaluate_all("(all) => all.map((one) => one.offsetTop)")
        assert tiles.count(tiles[-1]) > 1, f"the last figure is alone at {width} px"


CREATE_LIMITS = """
from django.utils import timezone
from notifications.contrib.rates.models import Limit
from notifications.db import database_now
closed = int(database_now().timestamp() + 3_600) * 1_000_000
for key in ("partner", "accounts:4711-with-a-name-that-is-long"):
    times = {"used_at": timezone.now(), "corrected_at": timezone.now(), "closed_until": closed}
    Limit.objects.create(key=key, name="partner", corrected_by="Retry-After: 3600", **times)
"""

#: The pages by their names; ``{job}`` is a failed job, ``{schedule}`` a schedule.
PAGES = {
    "index": "/admin/",
    "overview": OVERVIEW,
    "tasks": f"{OVERVIEW}tasks/",
    "jobs": f"{ADMIN}job/",
    "filtered": f"{ADMIN}job/?state__exact=failed&q=receipt",
    "no-jobs": f"{ADMIN}job/?q=nothing-has-this-name",
    "job": f"{ADMIN}job/{{job}}/change/",
    "history": f"{ADMIN}job/{{job}}/history/",
    "schedules": "/admin/notifications_schedules/schedule/",
    "schedule": "/admin/notifications_schedules/schedule/nightly-report/change/",
    "alerts": "/admin/notifications_operations/alert/",
    "notifications": f"{ADMIN}notification/",
    "limits": "/admin/notifications_rates/limit/",
    "broadcasts": "/admin/notifications_broadcasts/broadcast/",
    "composer": "/admin/notifications_broadcasts/broadcast/add/",
    "webhooks": "/admin/notifications_webhooks/webhookendpoint/",
    "preferences": "/admin/notifications_deliveries/preference/",
}


@pytest.mark.nightly
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible(admin_site, admin_page, scheme):
    """axe finds nothing in the content of any page, and nothing is wider than a narrow screen of 390 px."""
    page = admin_page
    [(job,)] = admin_site.rows("SELECT id FROM notifications_job WHERE state = 'failed' LIMIT 1")
    page.emulate_media(color_scheme=scheme)
    found = {}
    for name, path in PAGES.items():
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(admin_site.url + path.format(job=job))
        found[name] = find_violations(page, "#content", DJANGO)
        if scheme == "light":
            shoot(page, name)
            page.emulate_media(color_scheme=scheme)
    found = {name: violations for name, violations in found.items() if violations}
    assert not found, "\n".join(
        f"{name}\n  {violation}" for name, list_ in found.items() for violation in list_
    )


#: A rule that Django's own search field breaks: its label is an image, and a help text stands below.
DJANGO = ("label-title-only",)
