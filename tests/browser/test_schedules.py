"""The admin of schedules beside a running worker, without JavaScript."""

import os

import pytest

from tests.support.browser import sign_in
from tests.support.waiting import wait_until

LIST = "/admin/notifications_schedules/schedule/"


@pytest.fixture
def schedule_server(site):
    """A running site with two schedules, of which one fails."""
    site.notifications["SCHEDULES"] = {
        "nightly-report": {"task": "tests.jobs.tasks.noop", "cron": "0 3 * * *", "timezone": "Europe/Berlin"},
        "poll-suppliers": {"task": "tests.jobs.tasks.fail", "cron": "*/10 * * * *", "owner": "admin"},
    }
    site.start_web()
    return site


def test_run_pause_and_resume(schedule_server, new_page):
    """Run now enqueues a job that the worker runs; a failure is on the page and on the bell of the owner."""
    page = new_page(errors=False, java_script_enabled=False)  # The admin has no favicon.
    sign_in(page, schedule_server.url, "admin")
    for name, outcome in (("nightly-report", "Succeeded"), ("poll-suppliers", "Failed")):
        page.goto(f"{schedule_server.url}{LIST}{name}/change/")
        page.get_by_role("button", name="Run now").click()
        page.get_by_text("1 job was enqueued.").wait_for()
        wait_until(
            lambda outcome=outcome: schedule_server.rows(
                "SELECT 1 FROM notifications_schedules_tick WHERE job_state = ?", [outcome.lower()]
            ),
            what=f"the outcome {outcome}",
        )
        page.goto(schedule_server.url + LIST)
        page.get_by_text(f"{outcome} (run by hand)").wait_for()
    page.get_by_text("Failing since").wait_for()
    wait_until(
        lambda: (
            schedule_server.rows("SELECT title FROM notifications_notification")
            == [("poll-suppliers has failed",)]
        ),
        what="the notification of the owner",
    )
    page.goto(f"{schedule_server.url}{LIST}poll-suppliers/change/")
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("1 schedule was paused.").wait_for()
    page.get_by_text("Paused since").wait_for()
    shoot(page, "list")
    page.goto(f"{schedule_server.url}{LIST}poll-suppliers/change/")
    shoot(page, "detail")
    page.get_by_role("button", name="Resume").click()
    page.get_by_text("1 schedule was resumed.").wait_for()


def shoot(page, name):
    folder = os.environ.get("SHOTS")
    for scheme, width in (("light", 1280), ("dark", 1280), ("light", 390)) if folder else ():
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        page.screenshot(path=f"{folder}/{name}-{scheme}-{width}.png", full_page=True)
