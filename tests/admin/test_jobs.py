"""Staff cancel jobs and have them tried again in the admin, with permission, and the log says who did."""

import html
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.db import OperationalError, connections
from django.urls import reverse
from django.utils import timezone

from notifications.admin import JobAdmin
from notifications.jobs import cancel, retry
from notifications.models import Job, Notification, uuid7
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.outcomes import release
from tests.support.statements import refused

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

LIST = "/admin/notifications/job/"


def act(client, action, *ids, **form):
    return client.post(LIST, {"action": action, "_selected_action": ids, **form}, follow=True)


def said(answer):
    return [str(message) for message in answer.context["messages"]]


def test_cancel(client, sign_in_staff, user):
    """Queued ones at once, running ones are asked; owners are told; each is in the log."""
    staff = sign_in_staff("view_job", "change_job")
    queued, running, done = (tasks.noop.using(owner=user, title=title).enqueue().id for title in "abc")
    Job.objects.filter(id=done).update(priority=2)
    [job] = claim_rows(uuid7(), 1)
    assert str(job.id) == done
    release(job)
    Job.objects.filter(id=done).update(state="succeeded", priority=0)
    Job.objects.filter(id=running).update(priority=1)
    claim_rows(uuid7(), 1)
    answer = act(client, "cancel_jobs", queued, running, done)
    assert said(answer) == ["1 job was cancelled.", "Requested cancellation of 1 running job."]
    assert Job.objects.get(id=queued).state == "cancelled"
    assert Job.objects.get(id=running).cancelled_by_other
    assert [str(note.job) for note in Notification.objects.all()] == [queued]
    logged = LogEntry.objects.all()
    assert {(entry.user_id, entry.object_id, entry.change_message) for entry in logged} == {
        (staff.pk, queued, "Cancelled."),
        (staff.pk, running, "Cancelled."),
    }
    assert said(act(client, "cancel_jobs", done)) == [
        "No job was cancelled, because none of them is queued or running."
    ]


def test_cancelling_inside_the_transaction_of_a_request(client, sign_in_staff, user, monkeypatch):
    """``ATOMIC_REQUESTS`` puts it off until the answer is made: of what is done nothing is said."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    sign_in_staff("view_job", "change_job")
    done = tasks.noop.using(owner=user).enqueue().id
    run_jobs()
    queued = tasks.noop.using(owner=user).enqueue().id
    assert said(act(client, "cancel_jobs", queued, done)) == ["Requested cancellation of 1 running job."]
    assert (Job.objects.get(id=queued).state, Job.objects.get(id=done).state) == ("cancelled", "succeeded")
    assert [entry.object_id for entry in LogEntry.objects.all()] == [queued]


def test_cancelling_ones_own(client, sign_in_staff):
    """Who cancels their own job is not told of it."""
    staff = sign_in_staff("view_job", "change_job")
    id = tasks.noop.using(owner=staff).enqueue().id
    act(client, "cancel_jobs", id)
    assert Job.objects.get().state == "cancelled" and not Notification.objects.exists()


def test_too_many(client, sign_in_staff, user, settings):
    """What the owner may not have is said."""
    sign_in_staff("view_job", "change_job")
    id = tasks.noop.using(owner=user).enqueue().id
    cancel(Job.objects.values_list("pk", flat=True), by=user.pk)
    tasks.noop.using(owner=user).enqueue()
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
    (words,) = said(act(client, "retry_jobs", id))
    assert words.startswith("There are 1 active jobs already.")
    assert not LogEntry.objects.exists()


def test_run_now(client, sign_in_staff, user):
    """Only a job that waits for a time is changed."""
    sign_in_staff("view_job", "change_job")
    later = tasks.noop.using(owner=user, run_after=timezone.now() + timedelta(days=1)).enqueue().id
    ready = tasks.noop.using(owner=user).enqueue().id
    page = client.get(reverse("admin:notifications_job_change", args=[later])).text
    assert "Run this job now" in page and "Cancel this job" in page
    assert said(act(client, "run_jobs_now", later, ready)) == ["1 job waits no longer."]
    assert {job.run_after for job in Job.objects.all()} == {None}
    assert [entry.object_id for entry in LogEntry.objects.all()] == [later]
    assert said(act(client, "run_jobs_now", later)) == [
        "No job was changed, because none of them waits for a time."
    ]
    run_jobs()
    assert set(Job.objects.values_list("state", flat=True)) == {"succeeded"}


def test_reschedule(client, sign_in_staff, user):
    """A page asks for the time; jobs that are done stay as they are."""
    sign_in_staff("view_job", "change_job")
    done = tasks.noop.using(owner=user).enqueue().id
    run_jobs()
    ready = tasks.noop.using(owner=user).enqueue().id
    later = tasks.noop.using(owner=user, run_after=timezone.now() + timedelta(days=1)).enqueue().id
    offered = 'name="action" value="reschedule_jobs"'
    assert offered in client.get(f"{LIST}{ready}/change/").text
    assert offered not in client.get(f"{LIST}{done}/change/").text
    page = act(client, "reschedule_jobs", done, ready, later)
    assert "<h1>Reschedule 2 jobs</h1>" in page.text and "time zone UTC" in page.text
    assert "errorlist" not in page.text and Job.objects.filter(run_after=None).count() == 2
    page = act(client, "reschedule_jobs", done, ready, later, confirmed="1", run_at="2100-01-01T08:30")
    assert said(page) == ["2 jobs were rescheduled: Jan. 1, 2100, 8:30 a.m. UTC"]
    at = datetime(2100, 1, 1, 8, 30, tzinfo=UTC)
    assert dict(Job.objects.values_list("pk", "run_after")) == {
        UUID(done): None,
        UUID(ready): at,
        UUID(later): at,
    }
    assert {(entry.object_id, entry.change_message) for entry in LogEntry.objects.all()} == {
        (id, "Rescheduled to 2100-01-01 08:30 UTC.") for id in (ready, later)
    }
    assert said(act(client, "reschedule_jobs", done)) == [
        "No job was changed, because none of them is queued."
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "This field is required."),
        ("2020-01-01T00:00", "This time is over. Choose a later one, or run the jobs now."),
        ("0001-01-01T00:00", "Enter a valid date/time."),
        ("tomorrow", "Enter a valid date/time."),
        ("9" * 10_000, "Enter a valid date/time."),
        ("9999-12-31T23:59", "Enter a valid date/time."),
        ("2100-03-28T02:30", "be interpreted in time zone Europe/Berlin"),
    ],
)
def test_a_wrong_time(client, sign_in_staff, text, error):
    """Is shown with what is wrong, and changes nothing. The clocks of Berlin skip half past two."""
    sign_in_staff("view_job", "change_job")
    id = tasks.noop.enqueue().id
    zone = {"2100": "Europe/Berlin", "9999": "America/New_York", "0001": "Asia/Tokyo"}.get(text[:4], "UTC")
    with timezone.override(zone):
        page = act(client, "reschedule_jobs", id, confirmed="1", run_at=text)
    assert html.escape(error) in page.text or error in page.text
    assert f'name="_selected_action" value="{id}"' in page.text
    assert Job.objects.get().run_after is None and not LogEntry.objects.exists()


def test_what_is_no_id_is_not_selected(client, sign_in_staff):
    sign_in_staff("view_job", "change_job")
    assert said(act(client, "retry_jobs", "x")) == [
        "No job was changed, because what was selected is no id of a job."
    ]


@pytest.mark.parametrize("action", ["cancel_jobs", "retry_jobs", "run_jobs_now", "reschedule_jobs"])
def test_without_the_permission(client, sign_in_staff, user, action):
    """Who may only look is offered nothing, and what they send all the same does nothing."""
    sign_in_staff("view_job")
    later = timezone.now() + timedelta(days=1)
    id = tasks.noop.using(owner=user, run_after=later).enqueue().id
    if action == "retry_jobs":
        cancel(Job.objects.values_list("pk", flat=True), by=user.pk)
    before = Job.objects.values().get()
    for address in (LIST, f"{LIST}{id}/change/"):
        assert action not in client.get(address).content.decode()
    act(client, action, id, confirmed="1", run_at="2100-01-01T08:30")
    assert Job.objects.values().get() == before
    assert not LogEntry.objects.exists()


def test_the_button_of_a_job(client, sign_in_staff, user):
    """What can be done with it, and nothing else."""
    sign_in_staff("view_job", "change_job")
    id = tasks.noop.using(owner=user).enqueue().id
    page = reverse("admin:notifications_job_change", args=[id])

    def offered():
        text = client.get(page).content.decode()
        return [
            action for action in ("cancel_jobs", "retry_jobs") if f'name="action" value="{action}"' in text
        ]

    assert offered() == ["cancel_jobs"]
    cancel(Job.objects.values_list("pk", flat=True), by=user.pk)
    assert offered() == ["retry_jobs"]
    retry(Job.objects.values_list("pk", flat=True))
    run_jobs()
    assert offered() == []


class Late:
    """Sends what only reads to a replica, which is not there."""

    def db_for_read(self, model, **hints):
        return "replica" if model._meta.app_label == "notifications" else None


@pytest.mark.parametrize("model", ["job", "notification"])
def test_a_replica_is_never_read(client, sign_in_staff, user, settings, model):
    sign_in_staff("view_job", "view_notification")
    tasks.noop.using(owner=user).enqueue()
    run_jobs()
    settings.DATABASE_ROUTERS = [f"{__name__}.Late"]
    page = f"/admin/notifications/{model}/"
    assert "Noop" in client.get(page).content.decode()
    id = (Job if model == "job" else Notification).objects.using("default").get().pk
    assert "Noop" in client.get(f"{page}{id}/change/").content.decode()


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("cancel_jobs", {}),
        ("retry_jobs", {"state": "failed"}),
        ("run_jobs_now", dict.fromkeys(["run_after", "due_at"], timezone.now() + timedelta(days=1))),
    ],
)
def test_a_database_that_is_away(client, sign_in_staff, user, action, fields):
    """No error page: it says so, and nothing is lost."""
    sign_in_staff("view_job", "change_job")
    id = tasks.noop.using(owner=user).enqueue().id
    Job.objects.update(**fields)
    before = Job.objects.values().get()
    with refused("UPDATE .?notifications_job|notifications_job.* FOR UPDATE") as statements:
        answer = act(client, action, id)
    assert statements
    assert answer.status_code == 503
    assert "The database is not available. Go back and try again" in answer.text
    assert Job.objects.values().get() == before


def test_a_database_that_is_away_while_a_list_is_rendered(client, sign_in_staff, monkeypatch):
    """Its columns are read after the view has returned."""

    def away(*args, **kwargs):
        raise OperationalError("database is locked")

    sign_in_staff("view_job")
    tasks.noop.enqueue()
    monkeypatch.setattr(JobAdmin, "state_text", away)
    assert client.get("/admin/notifications/job/").status_code == 503
