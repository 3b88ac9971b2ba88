"""The page of a job, without JavaScript."""

import json
import re
import uuid
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from notifications.api import notify
from notifications.ids import uuid7
from notifications.jobs.transitions import manual
from notifications.models import Job, Notification
from tests.data.rows import finish_job, job
from tests.support.claims import claim_rows

pytestmark = pytest.mark.django_db(transaction=True)


def html_of(response):
    return response.content.decode()


def make_job(user, **fields):
    now = fields.pop("created_at", None) or "2026-01-01T00:00:00Z"
    defaults = {
        "task_path": "t.task",
        "backend": "default",
        "queue_name": "default",
        "title": "Count the rows",
    }
    return Job.objects.create(id=uuid7(), user=user, created_at=now, queued_at=now, **defaults | fields)


def test_running_job_shows_its_progress(user_client, user):
    """The page reloads without JavaScript, and is updated live with it."""
    job = make_job(user, state="running", attempt=2, max_attempts=3, progress_current=3, progress_total=8)
    Job.objects.filter(pk=job.pk).update(started_at=timezone.now() - timedelta(minutes=3, seconds=20))
    page = html_of(user_client.get(f"/notifications/jobs/{job.pk}/"))
    assert '<span data-job-part="elapsed">Running for 3 min</span>' in page
    assert '<progress data-job-part="bar" aria-label="Progress" max="8" value="3">' in page
    assert "3 of 8" in page
    assert "attempt 2 of 3" in page
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in page
    href = f"/notifications/api/jobs/{job.pk}/"
    assert (
        f'<notifications-job job="{job.pk}" href="{href}" data-state="running" reload marks-read row>' in page
    )


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"state": "succeeded", "result": json.dumps({"rows": 3})}, "{\n  &quot;rows&quot;: 3\n}"),
        ({"state": "succeeded", "result": json.dumps("<done>")}, "&lt;done&gt;"),
        ({"state": "succeeded", "result": "null", "url": "/reports/7/"}, 'href="/reports/7/"'),
        ({"state": "failed", "error": json.dumps({"title": "Failed", "detail": "No answer."})}, "No answer."),
        ({"state": "cancelled"}, "Cancelled"),
    ],
)
def test_done_job_shows_its_outcome(user_client, user, fields, shown):
    """It shows the result, a link to it or the error, and does not reload."""
    job = make_job(user, seq=1, **fields)
    page = html_of(user_client.get(f"/notifications/jobs/{job.pk}/"))
    assert shown in page
    assert "http-equiv" not in page
    assert "<notifications-job" not in page


def test_a_failed_job_shows_the_error_and_the_remedy_first(user_client, user):
    """Once."""
    error = {"title": "Failed", "detail": "No answer."}
    job = make_job(user, seq=1, state="failed", url="/reports/7/", error=json.dumps(error))
    page = html_of(user_client.get(f"/notifications/jobs/{job.pk}/")).partition("<main")[2]
    texts = (
        ">Failed<",
        "No answer.",
        "Try again",
        "View partial result",
        "Created",
    )
    places = [page.index(text) for text in texts]
    assert places == sorted(places) and page.count("No answer.") == 1


def test_a_succeeded_job_shows_what_its_task_says_of_it(user_client, user):
    """The body of its notification, in the color of its level, not its state; how long it took, and how it was told."""
    job = make_job(user, seq=1, state="succeeded", started_at=timezone.now() - timedelta(seconds=14))
    Job.objects.filter(pk=job.pk).update(finished_at=timezone.now())
    [end] = notify(user, "Orders finished", body="36 of 40 passed.", level="warning", key=f"job:{job.pk}")
    Notification.objects.filter(pk=end).update(job=job.pk, read_at=timezone.now())
    page = html_of(user_client.get(f"/notifications/jobs/{job.pk}/"))
    assert re.search(r'data-level="warning"><strong dir="auto">36 of 40 passed\.</strong>', page)
    assert "Succeeded" not in page.partition("<main")[2]
    assert "Took 14 s" in page and "<summary>How you were notified</summary>" in page


def test_jobs_of_other_users_are_not_found(user_client, other_user):
    """404, as for a job that does not exist."""
    job = make_job(other_user)
    for id in (job.pk, uuid.uuid4()):
        assert user_client.get(f"/notifications/jobs/{id}/").status_code == 404


@pytest.mark.parametrize(
    ("url", "page"), [("/exports/7/", "/exports/7/"), ("", None), ("https://example.com/", None)]
)
def test_cancel_and_retry_redirect_to_the_job(user_client, user, url, page):
    """The redirect leads to the job's url on this site or to its default page, never to another site."""
    row = make_job(user, state="queued", url=url)
    page = page or f"/notifications/jobs/{row.pk}/"
    for verb, state in (("cancel", "cancelled"), ("retry", "queued")):
        response = user_client.post(f"/notifications/jobs/{row.pk}/{verb}/")
        assert (response.status_code, response["Location"]) == (303, page)
        assert Job.objects.get().state == state


class TestJobButtons:
    """Cancel and retry on the page of a job, which work without JavaScript."""

    def page(self, client, row):
        return client.get(reverse("notifications:job", args=[row.pk])).content.decode()

    def test_cancel_and_retry(self, user_client, user):
        """The page has the button that applies to the state. It leads back to the page."""
        row = job(user)
        cancel_at, retry_at = (
            reverse(f"notifications:job-{verb}", args=[row.pk]) for verb in ("cancel", "retry")
        )
        assert [at in self.page(user_client, row) for at in (cancel_at, retry_at)] == [True, False]
        response = user_client.post(cancel_at)
        assert (response.status_code, response["Location"]) == (
            303,
            reverse("notifications:job", args=[row.pk]),
        )
        page = self.page(user_client, row)
        assert [at in page for at in (cancel_at, retry_at)] == [False, True]
        assert ">Cancelled</strong> by you" in page
        user_client.post(retry_at)
        assert Job.objects.get().state == "queued"

    def test_job_that_is_being_cancelled(self, user_client, user):
        row = job(user)
        claim_rows(uuid7(), 1)
        manual.cancel([row.pk], by=user.pk)
        page = self.page(user_client, row)
        assert "Cancelling… Results so far are kept." in page and "job-cancel" not in page
        assert reverse("notifications:job-cancel", args=[row.pk]) not in page

    def test_succeeded_job_has_no_buttons(self, user_client, user):
        finish_job(row := job(user), uuid7())
        assert "<form" not in self.page(user_client, row).partition("<main>")[2]

    @pytest.mark.parametrize("verb", ["cancel", "retry"])
    def test_jobs_of_other_users(self, verb, user_client, other_user):
        row = job(other_user)
        assert user_client.post(reverse(f"notifications:job-{verb}", args=[row.pk])).status_code == 404
        assert user_client.post(reverse(f"notifications:job-{verb}", args=[uuid.uuid4()])).status_code == 404
        assert Job.objects.get().version == 1

    def test_too_many_active_jobs(self, user_client, user, settings):
        row = job(user)
        manual.cancel([row.pk])
        job(user)
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
        response = user_client.post(reverse("notifications:job-retry", args=[row.pk]))
        assert response.status_code == 429 and b"too many unfinished jobs" in response.content

    def test_where_a_failed_job_stopped(self, user_client, user):
        """The outcome has the last progress and its message, on the tint of a failure."""
        row = make_job(user, state="failed", progress_current=7, progress_total=12, progress_message="Send")
        page = self.page(user_client, row)
        assert ">Failed</strong> at 7 of 12: <bdi>Send</bdi></p>" in page
        assert 'class="notifications-outcome notifications-band" data-level="error"' in page
        assert " at 7 of 12" not in self.page(
            user_client, make_job(user, state="succeeded", progress_total=12)
        )
