"""The page of a job, without JavaScript."""

import json
import re
import uuid
from datetime import timedelta

import pytest
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from notifications.api import batch, notify
from notifications.db import connection
from notifications.jobs import cancel
from notifications.models import Job, Notification, uuid7
from tests.data.rows import finish_job, job
from tests.jobs import tasks
from tests.jobs.batch_rows import claim_all, end, jobs_of, row
from tests.support.claims import claim_rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]


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
    assert '<noscript><meta http-equiv="refresh" content="5; url=?watched=1"></noscript>' in page
    href = f"/notifications/api/jobs/{job.pk}/"
    element = (
        f'<notifications-job job="{job.pk}" href="{href}" data-state="running" data-version="{job.version}"'
    )
    assert f"{element} reload marks-read row>" in page


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


def test_a_queued_job_shows_when_it_expires(user_client, user):
    moment = timezone.now().replace(year=2031, month=5, day=6)
    job = make_job(user, state="queued", expires_at=moment)
    page = html_of(user_client.get(f"/notifications/jobs/{job.pk}/"))
    assert re.search(r'<div data-job-part="queued"><dt>Expires at</dt><dd><time datetime="2031-05-06', page)
    [item] = user_client.get("/notifications/api/jobs/").json()["items"]
    assert item["expires_at"].startswith("2031-05-06T")
    Job.objects.filter(pk=job.pk).update(state="failed", seq=None)
    assert "Expires at" not in html_of(user_client.get(f"/notifications/jobs/{job.pk}/"))


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
    Notification.objects.filter(pk=end).update(level="info")
    page = html_of(user_client.get(f"/notifications/jobs/{job.pk}/"))
    assert 'class="notifications-outcome notifications-band">' in page  # the tint of no level
    assert '<p class="notifications-state" data-state="succeeded"><strong' in page


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
        cancel([row.pk], by=user.pk)
        page = self.page(user_client, row)
        # The script, to which a job that is being cancelled runs, writes no state there.
        assert re.findall(r"<strong([^>]*)>([^<]*)</strong>", page) == [("", "Cancelling…")]
        assert "Results so far are kept." in page and 'data-job-part="pace"' not in page
        assert re.search(r"disabled>.*<span>Cancelling…</span></button>", page) and "Cancel job" not in page

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
        cancel([row.pk])
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


class TestBatches:
    def make(self, owner, *, count, failed, notified=True):
        with batch(owner=owner, title="Import", notify=notified) as b:
            for number in range(count):
                tasks.noop.using(title=f"List {number}").enqueue()
        for number, claimed in enumerate(claim_all()):
            end(claimed, succeeds=number >= failed)
        return row(b)

    def page(self, client, row):
        return html_of(client.get(f"/notifications/jobs/{row.pk}/")).partition("<main")[2]

    def test_how_many_have_failed_and_which(self, user_client, user):
        """At most 10, each with its error and a link, in as many queries as one."""
        queries = []
        for failed in (1, 12):
            made = self.make(user, count=14, failed=failed)
            with CaptureQueriesContext(connection()) as captured:
                page = self.page(user_client, made)
            queries.append(len(captured))
            assert f'<strong dir="auto">{14 - failed} of 14 done, {failed} failed</strong></p>' in page
            listed = re.findall(r'<div><a dir="auto" href="([^"]+)">(List \d+)</a> </div>', page)
            shown = jobs_of(made)[: min(failed, 10)]
            assert listed == [(f"/notifications/jobs/{one.pk}/", one.title) for one in shown]
            assert page.count(">The job stopped because of an error.</div>") == 1
            widths = re.findall(r'<rect data-level="(\w+)" width="([\d.]+)%"', page)
            assert [level for level, _ in widths] == ["warning", "error", "success"]
            assert float(widths[2][1]) == pytest.approx(100 * (14 - failed) / 14, abs=0.01)
            assert ("and 2 others" in page) is (failed == 12)
            assert f">Retry {failed} failed</button>" in page
        assert queries[1] <= queries[0]

    def test_jobs_of_one_title_that_failed_alike(self, user_client, user):
        """What failed is said once, with a link to each."""
        with batch(owner=user) as b:
            for _ in range(4):
                tasks.noop.using(title="Send receipt").enqueue()
        for claimed in claim_all():
            end(claimed, succeeds=False)
        listed = self.page(user_client, row(b)).partition('id="notifications-failed"')[2]
        assert (listed.count(">Send receipt<"), listed.count("because of an error")) == (1, 1)
        links = re.findall(r'<a dir="auto" href="([^"]+)"(?: aria-label="Send receipt, (\d)")?>', listed)
        assert links == [
            (f"/notifications/jobs/{one.pk}/", str(number) if number > 1 else "")
            for number, one in enumerate(jobs_of(b), 1)
        ]

    def test_one_that_has_succeeded_or_was_cancelled(self, user_client, user):
        page = self.page(user_client, self.make(user, count=2, failed=0))
        assert "All 2 jobs succeeded." in page and '<svg class="notifications-tints' not in page
        with batch(owner=user) as b:
            tasks.noop.enqueue()
            tasks.noop.enqueue()
        end(claim_rows(uuid7(), 1)[0])
        cancel([b.id], by=user.pk)
        page = self.page(user_client, row(b))
        assert (
            ">Cancelled</strong> by you</p>" in page and '<p dir="auto">1 of 2 done, 1 cancelled</p>' in page
        )

    def test_its_notification(self, user_client, user):
        """The pane says it once."""
        made = self.make(user, count=3, failed=1)
        shown = Notification.objects.get(job=made.pk)
        page = html_of(user_client.get(f"/notifications/{shown.pk}/?part=pane"))
        assert page.count("2 of 3 done, 1 failed") == 1 and ">List 0</a>" in page and ">Failed<" not in page

    def test_the_pages_of_its_jobs(self, user_client, other_user, client_of, user):
        """They are those of the owner of the batch. While one is active, the batch shows it."""
        made = self.make(user, count=2, failed=1)
        path = f"/notifications/jobs/{jobs_of(made)[0].pk}/"
        page = html_of(user_client.get(path))
        assert f'<a dir="auto" href="/notifications/jobs/{made.pk}/">Import</a>' in page and "List 0" in page
        other = client_of(other_user)
        assert (other.get(path).status_code, other.post(f"{path}retry/").status_code) == (404, 404)
        assert user_client.post(f"{path}retry/")["Location"] == path
        assert user_client.get(path)["Location"] == f"/notifications/jobs/{made.pk}/"
        assert row_state(made) == "running"

    def test_a_job_of_another_user_in_it(self, user_client, user, other_user):
        """Is counted only."""
        with batch(owner=user) as b:
            tasks.noop.using(owner=other_user, title="Secret").enqueue()
            tasks.noop.using(title="Shown").enqueue()
        for claimed in claim_all():
            end(claimed, succeeds=False)
        page = self.page(user_client, row(b))
        assert "0 of 2 done, 2 failed" in page and "Secret" not in page
        assert ">Shown</a>" in page and "and 1 other<" in page
        assert user_client.get(f"/notifications/jobs/{jobs_of(row(b))[0].pk}/").status_code == 404

    def test_a_batch_in_it(self, user_client, user):
        """It has no owner, and lists the jobs of its reader too."""
        with batch(owner=user), batch(title="Inner") as inner:
            tasks.noop.using(owner=user, title="Mine").enqueue()
        end(claim_all()[0], succeeds=False)
        assert ">Mine</a>" in self.page(user_client, row(inner))

    def test_a_job_of_it_that_an_operator_has_cancelled(self, user_client, user):
        with batch(owner=user) as b:
            one = tasks.noop.enqueue()
        cancel([uuid.UUID(one.id)])
        page = self.page(user_client, jobs_of(row(b))[0])
        assert ">Cancelled</strong>" in page and "by you" not in page


def row_state(job):
    return Job.objects.get(pk=job.pk).state


@pytest.mark.parametrize(("waited", "shown"), [(5, ["Finished"]), (300, ["Created", "Finished"])])
def test_the_facts_have_each_time_once(user_client, user, waited, shown):
    """That of the creation only where it is another one than that of the end."""
    now = timezone.now()
    job = make_job(user, seq=1, state="succeeded", created_at=now - timedelta(seconds=waited + 1), attempt=1)
    Job.objects.filter(pk=job.pk).update(started_at=now - timedelta(seconds=1), finished_at=now)
    page = html_of(user_client.get(f"/notifications/jobs/{job.pk}/"))
    facts = page.partition('<dl class="notifications-facts">')[2].partition("</dl>")[0]
    assert re.findall("<dt>([^<]+)</dt>", facts) == shown and facts.count("<time ") == len(shown)
    assert facts.count("title=") == len(shown)


def test_the_page_keeps_its_height_at_the_end_of_the_job(user_client, user):
    """For those who have watched it, whose page is loaded again. Others, and later they too, have no empty room."""
    job = make_job(user, seq=1, state="succeeded", attempt=1)
    for ago, query, is_kept in ((1, "?watched=1", True), (1, "", False), (21, "?watched=1", False)):
        Job.objects.filter(pk=job.pk).update(finished_at=timezone.now() - timedelta(seconds=ago))
        page = html_of(user_client.get(f"/notifications/jobs/{job.pk}/{query}"))
        assert ("data-steady" in page) is is_kept
    Job.objects.filter(pk=job.pk).update(state="running", finished_at=None)
    page = html_of(user_client.get(f"/notifications/jobs/{job.pk}/")).partition("<main")[2]
    assert "data-steady" in page
    # Beside the facts: not in the place of a main action.
    assert page.index("notifications-facts") < page.index(f"/{job.pk}/cancel/")


@pytest.mark.parametrize("part", ["", "?part=pane"])
def test_a_failed_job_shows_what_its_task_says_of_it(user_client, user, part):
    """On its page, and once on that of its notification, without the word for its state."""
    error = json.dumps({"type": "task-failed", "title": "Failed", "detail": "No answer."})
    job = make_job(user, seq=1, state="failed", error=error, started_at=timezone.now())
    Job.objects.filter(pk=job.pk).update(finished_at=timezone.now())
    [end] = notify(user, "Count the rows", body="No answer.", level="error", key=f"job:{job.pk}")
    Notification.objects.filter(pk=end).update(job=job.pk)
    pages = (f"/notifications/jobs/{job.pk}/", f"/notifications/{end}/{part}")
    for page in pages:
        assert ">Failed</strong>" in html_of(user_client.get(page))
    Notification.objects.filter(pk=end).update(body="7 of 12 rows counted.", level="warning")
    texts = [html_of(user_client.get(page)) for page in pages]
    assert (
        '<strong dir="auto">7 of 12 rows counted.</strong>' in texts[0]
        and '<p dir="auto">No answer.</p>' in texts[0]
    )
    assert texts[1].count("7 of 12 rows counted.") == 1
    Notification.objects.filter(pk=end).update(body="No answer.", title="The count has stopped")
    texts = [html_of(user_client.get(page)) for page in pages]
    assert '<strong dir="auto">The count has stopped</strong>' in texts[0]
    assert "Failed</strong>" not in texts[0] + texts[1]
