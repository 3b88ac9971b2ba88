"""The timeline of a job's page, while the page is open."""

import itertools
import re

import pytest
from playwright.sync_api import expect

from tests.browser.parts import visit, wait_until_live
from tests.support.browser import sign_in
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

ENQUEUE = """
from django.contrib.auth import get_user_model
from tests.contrib.steps.step_tasks import wait_for_files
user = get_user_model().objects.get(username="demo")
print(wait_for_files.using(owner=user, title="Ship").enqueue({folder!r}, ["charge", "label"]).id)
"""


def test_steps_are_shown_as_they_begin_and_end(site, new_page, tmp_path):
    """By what rings for them: while a step lasts, nothing is read."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.start_web()
    site.start_worker()
    page = new_page(viewport={"width": 1280, "height": 900})
    job = site.python(ENQUEUE.format(folder=str(tmp_path))).strip()
    parts = []
    page.on("request", lambda request: "part=timeline" in request.url and parts.append(request.url))
    visit(page, site.url, f"/notifications/jobs/{job}/")
    wait_until_live(page)
    steps = page.locator("[data-job-timeline] [data-kind=step]")
    expect(steps).to_have_text([re.compile("^charge")])
    expect(steps).to_have_attribute("data-open", "")
    (tmp_path / "charge").touch()
    expect(steps).to_have_text([re.compile(r"^charge[\d.]+\sm?s"), re.compile("^labelRunning")])
    page.wait_for_timeout(2_500)
    read = len(parts)
    assert 1 <= read <= 4
    page.wait_for_timeout(2_500)
    assert len(parts) == read
    (tmp_path / "label").touch()
    expect(page.locator("p.notifications-state[data-level=success]")).to_be_visible()
    expect(steps.last).to_have_text(re.compile(r"^label\d"))


def test_a_step_that_begins_before_the_page_is_connected(site, new_page, tmp_path):
    """After the page was rendered: the catch-up tells it that the job has changed."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.start_web()
    site.start_worker()
    page = new_page()
    job = site.python(ENQUEUE.format(folder=str(tmp_path)).replace("label", "parcel")).strip()
    url = f"{site.url}/notifications/jobs/{job}/"

    def hold(route):
        rendered = wait_until(lambda: "charge" in (found := route.fetch()).text() and found, what="the step")
        (tmp_path / "charge").touch()
        wait_until(lambda: "parcel" in route.fetch().text(), what="the next step")
        route.fulfill(response=rendered)

    page.route(url, hold)
    visit(page, site.url, f"/notifications/jobs/{job}/")
    expect(page.locator("[data-job-timeline] [data-kind=step]")).to_have_text(
        [re.compile("^charge"), re.compile("^parcel")]
    )
    (tmp_path / "parcel").touch()


FILL = """
from datetime import timedelta
from uuid import UUID, uuid4
from django.utils import timezone
from notifications.contrib.steps.models import Step, UnfinishedStep
from notifications.models import Job
from tests.support.duties import run_duty
id, start = UUID("{job}"), timezone.now() - timedelta(hours=1)
for number in range(20):
    Step.objects.create(job=id, name=f"step {{number}}", result="1", attempt=1, started_at=start, ended_at=start)
UnfinishedStep.objects.create(job=id, name="declined", attempt=1, fence=1, started_at=start, ended_at=start)
call = '[{{"endpoint": "' + str(uuid4()) + '", "type": "job.started"}}]'
times = dict(created_at=start, queued_at=start, started_at=start, finished_at=start + timedelta(hours=2))
for number in range(6):
    task = "notifications.contrib.webhooks.sending.send"
    Job.objects.create(event_source=id, task_path=task, args=call, state="succeeded", **times)
run_duty("number pending changes")
"""


def test_what_a_person_has_chosen_stays_while_steps_end(site, new_page, tmp_path):
    """The filter, what is open, and the focus, which does not stop the timeline."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.start_web()
    site.start_worker()
    page = new_page(viewport={"width": 1280, "height": 900})
    files = ["charge", "label", "ship"]
    job = site.python(ENQUEUE.format(folder=str(tmp_path)).replace('["charge", "label"]', str(files))).strip()
    visit(page, site.url, f"/notifications/jobs/{job}/")
    steps = page.locator("[data-job-timeline] [data-kind=step]")
    expect(steps).to_have_text([re.compile("^charge")])
    site.python(FILL.format(job=job))
    page.reload()
    wait_until_live(page)
    only = page.get_by_label("Failures only")
    more = page.get_by_text("6 more events")
    more.click()
    only.check()
    expect(only).to_be_focused()
    for ended, begun in itertools.pairwise(files):
        step = steps.filter(has_text=ended)
        expect(step).to_have_attribute("data-open", "")
        (tmp_path / ended).touch()
        expect(steps.filter(has_text=begun)).to_be_attached()
        expect(step).not_to_have_attribute("data-open", "")
        expect(only).to_be_checked()
        expect(page.locator("[data-job-timeline] details")).to_have_attribute("open", "")
        expect(only if ended == "charge" else more).to_be_focused()
        more.focus()


SEED = """
from datetime import timedelta
from django.contrib.auth import get_user_model
from django.utils import timezone
from notifications.contrib.steps.models import Step, UnfinishedStep
from notifications.models import Job
from asyncsite.tasks import delete_old_reports
from tests.support.duties import run_duty
user = get_user_model().objects.get(username="demo")
id = delete_old_reports.using(owner=user, title="Ship").enqueue().id
start = timezone.now() - timedelta(hours=1)
times = dict(created_at=start, started_at=start, finished_at=start + timedelta(seconds=60))
Job.objects.update(state="failed", attempt=1, fence=1, seq=None, **times)
for number in range(40):
    moment = start + timedelta(seconds=number)
    Step.objects.create(job=id, name=f"step {number}", result="1", attempt=1, started_at=moment, ended_at=moment)
UnfinishedStep.objects.create(
    job=id, name="label", attempt=1, fence=1, started_at=moment, ended_at=start + timedelta(seconds=60)
)
run_duty("number pending changes")
print(id)
"""


@pytest.mark.parametrize("width", [1280, 360])
def test_the_call_at_which_a_job_has_failed(site_server, new_page, width):
    """It is one press away, and failures can be shown alone, without a script too."""
    page = new_page(viewport={"width": width, "height": 800}, java_script_enabled=False)
    job = site_server.python(SEED).strip()
    sign_in(page, site_server.url)
    page.goto(f"{site_server.url}/notifications/jobs/{job}/")
    cause = page.locator("#notifications-cause")
    expect(cause).not_to_be_in_viewport()
    page.get_by_role("link", name="Failed at label").click()
    expect(cause).to_be_in_viewport()
    expect(cause).to_contain_text("Failed · 21")
    rows = page.get_by_role("region", name="Timeline").get_by_role("listitem")
    expect(rows).to_have_count(42)
    page.get_by_label("Failures only").check()
    expect(rows).to_have_count(2)
