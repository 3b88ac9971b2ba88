"""Staff cancel jobs and have them tried again in the admin, with permission, and the log says who did."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import OperationalError, connection
from django.urls import reverse

from notifications.ids import uuid7
from notifications.jobs.transitions import manual, queueing
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.claims import claim_rows

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/notifications/job/"


@pytest.fixture
def sign_in_staff(client, make_user):
    """sign_in_staff(*codenames) signs a staff user with these permissions in to ``client`` and returns the user."""

    def sign_in(*codenames):
        user = make_user("staff", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client.force_login(user)
        return user

    return sign_in


def act(client, action, *ids, **form):
    return client.post(LIST, {"action": action, "_selected_action": ids, **form}, follow=True)


def said(answer):
    return [str(message) for message in answer.context["messages"]]


def test_cancel(client, sign_in_staff, user):
    """Queued ones at once, running ones are asked; owners are told; each is in the log."""
    staff = sign_in_staff("view_job", "change_job")
    queued, running, done = (tasks.noop.using(owner=user, title=title).enqueue().id for title in "abc")
    Job.objects.filter(id=done).update(priority=2)
    run_jobs_once = claim_rows(uuid7(), 1)
    assert [str(job.id) for job in run_jobs_once] == [done]
    queueing.release(run_jobs_once)
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
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
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


def test_retry_by_filter(client, sign_in_staff, user):
    """All that a filter shows, not only those of the page; the owner stays."""
    sign_in_staff("view_job", "change_job")
    for _ in range(3):
        tasks.fail.using(owner=user).enqueue()
    tasks.noop.using(owner=user).enqueue()
    run_jobs()
    ids = list(Job.objects.filter(state="failed").values_list("pk", flat=True))
    answer = client.post(
        f"{LIST}?state__exact=failed",
        {"action": "retry_jobs", "_selected_action": ids[:1], "select_across": "1"},
        follow=True,
    )
    assert said(answer) == ["3 jobs were queued again."]
    assert {(job.state, job.user_id) for job in Job.objects.filter(pk__in=ids)} == {("queued", user.pk)}
    assert LogEntry.objects.filter(change_message="Queued again.").count() == 3
    assert said(act(client, "retry_jobs", *ids)) == [
        "No job was queued again, because none of them has failed or was cancelled."
    ]


def test_too_many(client, sign_in_staff, user, settings):
    """What the owner may not have is said."""
    sign_in_staff("view_job", "change_job")
    id = tasks.noop.using(owner=user).enqueue().id
    manual.cancel(Job.objects.values_list("pk", flat=True), by=user.pk)
    tasks.noop.using(owner=user).enqueue()
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
    (words,) = said(act(client, "retry_jobs", id))
    assert words.startswith("There are 1 active jobs already.")
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("action", ["cancel_jobs", "retry_jobs"])
def test_without_the_permission(client, sign_in_staff, user, action):
    """Who may only look is offered nothing, and what they send all the same does nothing."""
    sign_in_staff("view_job")
    id = tasks.noop.using(owner=user).enqueue().id
    if action == "retry_jobs":
        manual.cancel(Job.objects.values_list("pk", flat=True), by=user.pk)
    before = Job.objects.values().get()
    for address in (LIST, f"{LIST}{id}/change/"):
        assert action not in client.get(address).content.decode()
    act(client, action, id)
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
    manual.cancel(Job.objects.values_list("pk", flat=True), by=user.pk)
    assert offered() == ["retry_jobs"]
    manual.retry(Job.objects.values_list("pk", flat=True))
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


@pytest.mark.parametrize(("action", "does"), [("cancel_jobs", "cancel"), ("retry_jobs", "retry")])
def test_a_database_that_is_away(client, sign_in_staff, user, monkeypatch, action, does):
    """No error page: it says so, and nothing is lost."""

    def away(*args, **kwargs):
        raise OperationalError("database is locked")

    sign_in_staff("view_job", "change_job")
    id = tasks.noop.using(owner=user).enqueue().id
    monkeypatch.setattr(manual, does, away)
    answer = act(client, action, id)
    assert answer.status_code == 200
    [words] = said(answer)
    assert words.startswith("The database is unavailable.")
    assert Job.objects.get().state == "queued"
