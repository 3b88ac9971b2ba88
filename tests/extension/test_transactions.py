"""Hooks of transactions: when the core calls them, and what it does with what they return."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import OperationalError, transaction
from django.utils import translation

from notifications import api, extension, times
from notifications.extension import RecordedTransaction
from notifications.jobs import cancel, retry
from notifications.models import Attempt, Job, Notification, OwedCall, SeenMark, Worker, uuid7
from notifications.testing import run_jobs, run_until_idle
from tests.extension.recorder import finish, new_job
from tests.jobs import tasks
from tests.support.duties import run_duty

pytestmark = pytest.mark.nightly_on_old_django


def test_the_end_of_a_job(user, recorder):
    """Its hooks run in one transaction, in this order, and what they keep is used after it."""
    job = tasks.noop.using(owner=user).enqueue()
    finish(job)
    assert recorder.names() == ["on_attempts", "before_created", "on_ends", "on_created", "last"]
    assert all(is_atomic for hook, _, is_atomic in recorder.calls if hook != "prepare")
    assert recorder.calls[0] == ("prepare", 0, False)
    assert recorder.states == ["succeeded"]
    assert recorder.jobs.keys() == {Notification.objects.get().id}
    assert recorder.kept == [(1, False)]


def test_rows_are_inserted(user, recorder):
    """With the outcome and its notification, also those of another package; jobs among them are claimed."""
    job = tasks.noop.using(owner=user).enqueue()
    mark = SeenMark(user=user, up_to=7, at=times.now())
    group = Group(name="Key of the database")
    attempt = Attempt(job_id=UUID(job.id), number=7, ended_at=times.now(), outcome="lost")
    recorder.returned = {
        "on_attempts": lambda outcomes: [attempt] if is_first(outcomes) else (),
        "on_ends": lambda outcomes: [mark, group, new_job()] if is_first(outcomes) else (),
    }

    def is_first(outcomes):
        return outcomes[0].job.id == UUID(job.id)

    run_jobs()
    assert SeenMark.objects.get().up_to == 7
    assert Attempt.objects.get().number == 7
    assert Group.objects.get().pk == group.pk
    other = Job.objects.exclude(id=job.id).get()
    recorder.returned = {"on_created": lambda rows: [new_job()]}
    assert finish(other).state == "succeeded"
    api.notify(user, "Hello")
    assert Job.objects.filter(state="queued").count() == 1


def test_a_hook_that_raises(user, recorder):
    """The transaction is stored without the extension, whose hooks are called later with the same facts."""

    def fail(outcomes):
        raise RuntimeError("No.")

    recorder.returned = {"on_ends": fail}
    job = tasks.noop.using(owner=user).enqueue()
    run_jobs()
    assert Job.objects.get(id=job.id).state == "succeeded"
    assert Notification.objects.count() == 1
    # All were left out, and called later, each with the last one. The one that fails is called again.
    assert OwedCall.objects.get().hook == "on_ends"
    names = recorder.names()[recorder.names().index("on_ends") + 1 :]
    assert sorted(names) == sorted(
        ["on_attempts", "last", "before_created", "last", "on_ends", "on_created", "last"]
    )
    assert recorder.jobs.keys() == {Notification.objects.get().id}
    recorder.returned = {}
    OwedCall.objects.update(due_at=times.now())
    run_duty("call hooks that are owed")
    assert recorder.states == ["succeeded"]
    assert recorder.kept == [(0, False), (1, False)]
    assert not OwedCall.objects.exists()


def test_a_transaction_that_is_repeated(user, recorder):
    """What was kept in the one that was rolled back is forgotten."""
    error = [OperationalError("database is locked")]

    def fail_once(rows):
        if error:
            raise error.pop()
        return ()

    recorder.returned = {"last": fail_once}
    finish(tasks.noop.using(owner=user).enqueue())
    assert recorder.names().count("on_ends") == 2
    assert recorder.kept == [(1, False)]


def test_an_attempt_that_is_retried(recorder):
    """Its job still has the state in which it ran. It does not end."""
    job = tasks.busy.enqueue(1, 60)  # or the pause before the next attempt may be shorter than this takes
    run_jobs()
    assert recorder.names() == ["on_attempts", "last"]
    assert recorder.states == ["running"]
    assert Job.objects.get(id=job.id).state == "queued"


def test_an_attempt_whose_worker_was_lost(recorder):
    worker = Worker.objects.create(
        id=uuid7(), concurrency=1, started_at=times.now(), lease_until=times.now() - timedelta(hours=1)
    )
    job = tasks.noop.enqueue()
    Job.objects.filter(id=job.id).update(
        state="running", worker=worker.id, attempt=1, max_attempts=2, fence=1, started_at=times.now()
    )
    run_duty("take jobs from lost workers")
    assert [name for name in recorder.names() if name != "duties"] == ["lost", "on_attempts", "last"]
    assert ("prepare", 0, False) in recorder.calls and ("lost", 1, True) in recorder.calls
    assert recorder.kept == [(0, False)]
    run_duty("take jobs from lost workers")
    assert recorder.names().count("lost") == 1


def test_a_job_that_is_retried_by_hand(recorder):
    job = tasks.fail.enqueue()
    run_jobs()
    recorder.calls.clear()
    retry([Job.objects.get(id=job.id).id])
    assert recorder.names() == ["retried"]
    cancel([Job.objects.get(id=job.id).id])
    recorder.returned = {"restarted": lambda jobs: [new_job()], "kept": "the hook of a change"}
    retry([Job.objects.get(id=job.id).id], from_start=True)
    assert recorder.names() == ["retried", "on_ends", "last", "restarted"]
    assert Job.objects.filter(state="queued").count() == 2
    assert recorder.kept[-1] == ("the hook of a change", False)


def test_names_in_a_job(recorder):
    """They are read once in an execution, after which a wait has no name of another kind."""
    recorder.returned["steps"] = ["rest"]
    job = Job.objects.get(id=tasks.nap_and_rest.enqueue().id)
    run_until_idle()
    read = [call for call in recorder.calls if call[0] == "steps_of"]
    assert read == [
        ("steps_of", job.id, False)
    ]  # not by the first execution, before which nothing was stored
    error = "The name 'rest' is that of a step of this job, and cannot be that of a pause"
    assert error in Attempt.objects.get(job=job).traceback


def test_notify(make_user, recorder):
    """In chunks that have room for the jobs that came with the last; in a caller's transaction without numbers."""
    users = [make_user(f"user{number}") for number in range(51)]
    recorder.returned = {"on_created": lambda rows: [new_job() for _ in rows]}
    api.notify(users[0], "Hello")
    recorder.calls.clear()
    with translation.override("de"):
        api.notify(users, "Hello")
    assert recorder.names() == ["before_created", "on_created"] * 2
    assert [rows for hook, rows, _ in recorder.calls if hook == "on_created"] == [50, 1]
    assert (recorder.language, recorder.jobs) == ("de", {})
    recorder.calls.clear()
    with transaction.atomic():
        api.notify(users[0], "Hello")
        assert recorder.names() == ["before_created", "on_created"]


def test_snoozed_notifications_that_may_not_return(user, recorder):
    """Those of all users in one call, in the transaction. They stay archived, and are not asked about again."""
    api.notify(user, "Stays", key="stays")
    api.notify(user, "Returns", key="returns")
    past = times.now() - timedelta(seconds=1)
    Notification.objects.update(snoozed_until=past, archived_at=past)
    run_duty("raise snoozed notifications")
    assert Notification.objects.get(archived_at=None).key == "returns"
    assert not Notification.objects.filter(snoozed_until__isnull=False).exists()
    raising = [call for call in recorder.calls if call[0] == "before_raised"]
    assert raising == [("before_raised", 2, True)]
    assert recorder.raised == Notification.objects.get(key="returns").returned_at
    assert recorder.kept[-1] == (recorder.raised, False)


def test_rows_that_belong_to_jobs(user, make_user, recorder):
    """They are deleted with them, and others are not."""
    extension.hooks.tables["job"].append(("notifications.Notification", "broadcast"))
    other = make_user("eve")
    (kept,) = api.notify(other, "Of no job")
    for delete in (lambda: call_command("notifications", "prune", days=0), user.delete):
        job = finish(tasks.noop.using(owner=user).enqueue())
        (id,) = api.notify(other, "Of the job")
        Notification.objects.filter(pk=id).update(broadcast=job.id)
        delete()
        assert not Job.objects.exists()
        assert [row.id for row in Notification.objects.filter(user=other)] == [kept]


def test_languages():
    """That of the job, else that of the reader, else that of the thread."""
    row, other = Notification(id=uuid7()), Notification(id=uuid7())
    tx = RecordedTransaction(jobs={row.id: Job(language="de")}, languages={row.id: "fr", other.id: "fr"})
    assert (tx.language_of(row), tx.language_of(other)) == ("de", "fr")
    assert tx.language_of(Notification(id=uuid7())) == translation.get_language()
