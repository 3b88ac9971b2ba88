"""Celery's signals move the jobs of observed tasks, on a real worker with two child processes."""

import time
from pathlib import Path

import pytest
from django.db import connection, transaction

from notifications.api import requester
from notifications.models import Attempt, Job, Notification
from notifications.times import now
from tests.contrib.celery.conftest import bell_of, until_ended, until_row
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture
def tasks():
    from tests.contrib.celery import tasks

    return tasks


@pytest.mark.smoke
def test_a_success_rings_the_bell_of_the_owner_that_the_declaration_names(tasks, user):
    result = tasks.export.delay(user.pk, 2026)
    job = until_ended(result)
    assert (job.state, job.title, job.user_id, job.executor) == (
        "succeeded",
        "Export 2026",
        user.pk,
        "observed",
    )
    assert (job.task_path, job.queue_name) == ("tests.contrib.celery.tasks.export", "celery")
    assert (job.result, job.attempt, job.max_attempts) == ('{"rows":12,"year":2026}', 1, 4)
    assert bell_of(user) == [("Export 2026", "Succeeded.", "success")]
    assert result.get(timeout=30) == {"rows": 12, "year": 2026}


def test_the_requester_is_the_owner_where_the_declaration_names_none(tasks, user, other_user):
    with requester(other_user):
        result = tasks.add.delay(2, 3)
    job = until_ended(result)
    assert (job.user_id, job.url, job.result) == (other_user.pk, "/sums/2/", "5")
    assert bell_of(user) == []
    assert bell_of(other_user) == [("Add 2 and 3", "5", "success")]


def test_a_task_without_an_owner_has_a_row_and_no_notification(tasks):
    assert until_ended(tasks.add.delay(1, 1)).user_id is None
    assert not Notification.objects.exists()


def test_a_failure_does_not_show_the_message_of_the_exception(tasks, user):
    job = until_ended(tasks.fail.delay(user.pk, "secret words"))
    assert (job.state, "secret" in job.error) == ("failed", False)
    [(_, body, level)] = bell_of(user)
    assert ("secret" in body, level) == (False, "error")
    [attempt] = Attempt.objects.filter(job=job)
    assert attempt.exception_class_path == "builtins.ValueError"
    assert "secret words" in attempt.traceback
    assert "raise ValueError(words)" in attempt.traceback


def test_retries_are_attempts_of_one_job(tasks, user):
    job = until_ended(tasks.retried.delay(user.pk, 2))
    assert (job.state, job.attempt, job.max_attempts, job.result) == ("succeeded", 3, 3, "2")
    assert bell_of(user) == [("Retried", "2", "success")]
    assert set(Attempt.objects.filter(job=job).values_list("outcome", flat=True)) == {"failed"}


def test_a_retry_that_waits_is_queued(tasks, user):
    result = tasks.retried.apply_async((user.pk, 1), {"countdown": 2})
    waiting = until_row(result, state="queued", attempt=1)
    assert waiting.executor == "observed"
    assert waiting.run_after > waiting.started_at
    [attempt] = Attempt.objects.filter(job=waiting)
    assert (attempt.outcome, attempt.exception_class_path) == ("failed", "builtins.OSError")
    assert (until_ended(result).state, bell_of(user)) == ("succeeded", [("Retried", "1", "success")])


def test_the_last_retry_fails(tasks, user):
    job = until_ended(tasks.autoretried.delay(user.pk))
    assert (job.state, job.attempt) == ("failed", 2)
    assert [level for *_, level in bell_of(user)] == ["error"]


def test_a_queued_task_has_a_row_before_a_worker_takes_it(tasks, user):
    result = tasks.export.apply_async((user.pk, 1), countdown=3600)
    # A thread that has waited for rows of earlier tasks does not wait for this one.
    job = until_row(result, state="queued")
    assert (job.attempt, job.user_id) == (0, user.pk)
    assert job.run_after is not None
    result.revoke()


def test_inside_a_transaction_the_row_comes_after_the_commit(tasks, user):
    with transaction.atomic():
        result = tasks.add.delay(4, 4)
        assert not Job.objects.filter(id=result.id).exists()
        if connection.vendor == "postgresql":
            # The worker inserts the row if it is faster, and neither waits for the other.
            assert until_ended(result).result == "8"
    assert until_ended(result).result == "8"


def test_a_rollback_leaves_the_row_of_the_worker(tasks, user):
    class Boom(Exception):
        pass

    with pytest.raises(Boom), transaction.atomic(), requester(user):
        result = tasks.add.delay(5, 5)
        raise Boom
    assert until_ended(result).user_id == user.pk


def test_a_task_publishes_another_one(tasks, user):
    """Its message has the header of the job: no error in the log, which each test of this module looks for."""
    tasks.publish_export.delay(user.pk, 2026)
    wait_until(lambda: len(bell_of(user)) == 2, what="both notifications")
    job = Job.objects.get(title="Export 2026")
    assert (job.state, job.user_id, job.language) == ("succeeded", user.pk, "en")


def test_progress_and_notify_work_inside(tasks, user, tmp_path):
    path = tmp_path / "gate"
    result = tasks.report.delay(user.pk, str(path))
    job = until_row(result, progress_current=3)
    assert (job.state, job.progress_total, job.progress_message) == ("running", 10, "third")
    path.touch()
    job = until_ended(result)
    assert (job.progress_current, job.progress_message) == (10, "all")
    assert [title for title, *_ in bell_of(user)] == ["From inside", "Reports"]


def test_progress_while_another_transaction_holds_the_row_of_the_job(tasks, user, tmp_path):
    """It is stored when the start is, which waits for the row."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite locks no single rows.")
    path = tmp_path / "gate"
    result = tasks.report.apply_async((user.pk, str(path)), countdown=5)
    until_row(result)
    with transaction.atomic():
        Job.objects.select_for_update().get(id=result.id)
        wait_until(Path(f"{path}.started").exists, what="the task to wait")
        time.sleep(0.5)  # the recorder finds the row locked
    job = until_row(result, progress_current=3)
    assert (job.state, job.progress_message) == ("running", "third")
    path.touch()
    until_ended(result)


def test_a_child_inherits_the_owner(tasks, user):
    until_ended(tasks.enqueue_child.delay(user.pk))
    child = wait_until(lambda: Job.objects.filter(title="Add 20 and 22").first(), what="the child's job")
    assert until_ended(child.id).user_id == user.pk
    wait_until(lambda: len(bell_of(user)) == 2, what="both notifications")


def test_the_owner_of_one_task_is_not_that_of_the_next_one(tasks, user):
    for _ in range(4):
        until_ended(tasks.export.delay(user.pk, 1))
    assert until_ended(tasks.add.delay(1, 2)).user_id is None


def test_a_result_that_cannot_be_stored_is_still_a_success(tasks, user):
    job = until_ended(tasks.return_huge.delay(user.pk))
    assert (job.state, job.result) == ("succeeded", "null")


@pytest.mark.parametrize(
    ("name", "state"), [("ignore", "succeeded"), ("reject", "failed"), ("reject_early", "failed")]
)
def test_ends_without_a_result_of_their_own(tasks, user, name, state):
    assert until_ended(getattr(tasks, name).delay(user.pk)).state == state
    assert len(bell_of(user)) == 1


def test_a_replaced_task_goes_on_as_the_same_job(tasks, user):
    job = until_ended(tasks.replace_itself.delay(user.pk))
    assert (job.state, job.result) == ("succeeded", '{"rows":12,"year":1999}')
    assert len(bell_of(user)) == 1


def test_a_task_that_a_chain_replaces_ends_with_the_chain(tasks, user):
    """The chain's last task, which is not observed, has the id."""
    result = tasks.replace_itself_by_a_chain.delay(user.pk)
    wait_until(lambda: Job.objects.filter(id=result.id, state="queued", fence=1).exists(), what="the chain")
    assert bell_of(user) == []
    job = until_ended(result)
    assert (job.state, job.result) == ("succeeded", "4")
    assert len(bell_of(user)) == 1


def test_notify_false_is_silent(tasks, user):
    assert until_ended(tasks.silent.delay(user.pk)).state == "succeeded"
    assert bell_of(user) == []


def test_an_id_that_is_no_uuid(tasks, user):
    tasks.export.apply_async((user.pk, 7), task_id="export-7")
    job = wait_until(lambda: Job.objects.filter(title="Export 7", state="succeeded").first(), what="the job")
    assert job.concurrency_key == "celery:export-7"
    assert tasks.export.AsyncResult("export-7").get(timeout=30) == {"rows": 12, "year": 7}


def test_a_task_with_the_id_of_another_job_leaves_that_job_alone(worker, tasks, user):
    job = Job.objects.create(
        task_path="shop.tasks.other", title="Another", queue_name="default", created_at=now(), queued_at=now()
    )
    result = tasks.export.apply_async((user.pk, 7), task_id=str(job.id))
    assert result.get(timeout=30) == {"rows": 12, "year": 7}
    worker.process.wait_for_line(f"or is another one: job {job.id}")
    job.refresh_from_db()
    assert (job.state, job.fence, job.title) == ("queued", 0, "Another")
    assert bell_of(user) == []


def test_a_task_that_is_not_observed_has_no_row(tasks):
    result = tasks.plain.delay(3)
    assert result.get(timeout=30) == 3
    assert not Job.objects.filter(id=result.id).exists()


def test_chains_and_chords_keep_working(tasks, user):
    from celery import chain, chord

    with requester(user):
        result = chain(tasks.add.s(1, 2), tasks.add.s(3), tasks.plain.s())()
        assert result.get(timeout=30) == 6
        total = chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.plain.s())()
        assert total.get(timeout=30) == [2, 4]
    wait_until(
        lambda: len(bell_of(user)) == 4, what="the notifications of the chain's tasks and of the chord's"
    )
    assert set(Job.objects.values_list("user_id", "state")) == {(user.pk, "succeeded")}


def test_a_revoked_task_that_waits_is_cancelled_and_told_once(tasks, user, tmp_path):
    result = tasks.export.apply_async((user.pk, 1), countdown=2)
    result.revoke()
    job = until_ended(result)
    assert job.state == "cancelled"
    assert bell_of(user) == [("Export 1", "It was cancelled.", "warning")]


@pytest.mark.usefixtures("prefork")
def test_a_terminated_task_is_cancelled_and_told_once(tasks, user, tmp_path):
    path = tmp_path / "gate"
    result = tasks.hold.delay(user.pk, str(path))
    until_row(result, state="running")
    wait_until(Path(f"{path}.started").exists, what="the task to run")
    result.revoke(terminate=True)
    assert until_ended(result).state == "cancelled"
    assert [body for _, body, _ in bell_of(user)] == ["It was cancelled."]


def test_an_expired_task_fails(tasks, user):
    result = tasks.export.apply_async((user.pk, 1), countdown=1.5, expires=0.5)
    job = until_ended(result)
    assert (job.state, '"type": "expired"' in job.error) == ("failed", True)
    assert bell_of(user) == [("Export 1", "It was not started in time.", "error")]


@pytest.mark.parametrize("name", ["exceed_hard_limit", "exceed_soft_limit"])
@pytest.mark.usefixtures("prefork")
def test_time_limits(tasks, user, name):
    job = until_ended(getattr(tasks, name).delay(user.pk))
    assert (job.state, '"type": "timed-out"' in job.error) == ("failed", True)
    assert [body for _, body, _ in bell_of(user)] == ["It took longer than it may take."]


@pytest.mark.usefixtures("prefork")
def test_a_killed_child(tasks, user):
    job = until_ended(tasks.kill_itself.delay(user.pk))
    assert (job.state, '"type": "worker-lost"' in job.error) == ("failed", True)
    assert len(bell_of(user)) == 1


@pytest.fixture
def late_publisher(monkeypatch):
    """This process does not insert the rows of what it publishes, as one that is about to."""
    from notifications.contrib.celery import observe

    monkeypatch.setattr(observe.recorder, "insert", lambda rows, *, wait=True: None)


@pytest.mark.usefixtures("prefork", "late_publisher")
def test_a_child_that_is_killed_before_the_row_is_inserted(tasks, user):
    """Its start dies with it, too. The main process of the worker knows the message."""
    with requester(user):
        job = until_ended(tasks.kill_at_once.delay(7), timeout=20)
    assert (job.state, '"type": "worker-lost"' in job.error, job.url) == ("failed", True, "/numbers/7/")
    assert [(title, level) for title, _, level in bell_of(user)] == [("Killed 7", "error")]


@pytest.mark.usefixtures("late_publisher")
def test_an_unknown_task_is_refused_before_the_row_is_inserted(celery_app, user, settings):
    """The worker does not know that it is observed. The header of its publisher says so."""
    name = "tests.contrib.celery.tasks.removed"
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "CELERY": {"tasks": {name: {"title": "Removed"}}}}
    with requester(user):
        job = until_ended(celery_app.send_task(name), timeout=20)
    assert (job.state, '"type": "unknown-task"' in job.error) == ("failed", True)
    assert bell_of(user) == [("Removed", "No worker knows how to do this.", "error")]
