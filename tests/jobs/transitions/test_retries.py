"""Retries by policy: another attempt after a stored delay."""

import json
import random
from contextlib import suppress
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import ProgrammingError, connection, transaction
from django.utils import timezone

from notifications.api import DATABASE_UNAVAILABLE, policy, task
from notifications.jobs import Policy, outcomes
from notifications.models import Attempt, Job
from notifications.signals import job_finished, rung
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of, until_done
from tests.jobs.tasks import Busy
from tests.support.claims import claim_rows
from tests.support.django_tasks import TaskResultStatus, task_finished, task_started
from tests.support.duties import run_duty
from tests.support.outcomes import failed

pytestmark = pytest.mark.django_db


@task
@policy(retry_on=(Busy,))
async def fails_otherwise():
    raise ValueError("not worth another attempt")


def make_due():
    Job.objects.filter(state="queued").update(run_after=timezone.now(), due_at=timezone.now())


def retry_delay(policy=None, *, attempt=1, exc=None, max_attempts=100):
    job = Job(attempt=attempt, max_attempts=max_attempts, title="x")
    return failed(job, exc or tasks.Busy(), policy or Policy(retry_on=tasks.Busy)).retry_delay


@pytest.fixture
def random_backoff(longest_backoff, monkeypatch):
    """Use random delays, as in production."""
    monkeypatch.setattr(outcomes, "random", random)


def test_a_job_is_retried_until_it_succeeds(user):
    """A failed attempt makes no notification. The TaskResult has one error for each failed attempt."""
    result = tasks.busy.using(owner=user).enqueue(2)
    for attempt in (1, 2):
        assert run_jobs() == 1
        job = Job.objects.get()
        assert (job.state, job.attempt, job.seq, job.worker, job.deadline) == (
            "queued",
            attempt,
            0,
            None,
            None,
        )
        assert (job.result, job.error, job.finished_at) == (None, None, None)
        assert job.run_after > timezone.now()
        assert notifications_of(user) == []
        result.refresh()
        assert (result.status, result.attempts, len(result.errors)) == (
            TaskResultStatus.READY,
            attempt,
            attempt,
        )
        assert run_jobs() == 0, "The delay is not over."
        make_due()
    assert run_jobs() == 1
    result.refresh()
    assert (result.status, result.return_value, result.attempts) == (TaskResultStatus.SUCCESSFUL, 3, 3)
    assert [error.exception_class for error in result.errors] == [tasks.VeryBusy, tasks.VeryBusy]
    assert len(notifications_of(user)) == 1


def test_the_last_attempt_fails(user):
    """max_attempts counts all attempts, and the owner is notified once."""
    tasks.busy_sync.using(owner=user).enqueue(9)
    run_jobs()
    make_due()
    assert run_jobs() == 1
    job = Job.objects.get()
    assert (job.state, job.attempt, json.loads(job.error)["type"]) == ("failed", 2, "task-failed")
    assert [attempt.number for attempt in Attempt.objects.order_by("number")] == [1, 2]
    assert len(notifications_of(user)) == 1


def test_progress_is_reset(user):
    tasks.busy_sync.using(owner=user).enqueue(1)
    run_jobs()
    job = Job.objects.get()
    assert (job.progress_current, job.progress_total, job.progress_message) == (None, None, "")


def test_other_exceptions_are_not_retried():
    fails_otherwise.enqueue()
    tasks.not_json.enqueue("set")
    run_jobs()
    assert set(Job.objects.values_list("state", "attempt")) == {("failed", 1)}


def test_timeouts():
    """A timeout is retried if retry_on has TimeoutError."""
    retried, failed = tasks.slow_at_first.enqueue(), tasks.slow.enqueue()
    run_jobs()
    assert Job.objects.get(id=failed.id).state == "failed"
    assert Job.objects.get(id=retried.id).state == "queued"
    assert Attempt.objects.get(job=retried.id).outcome == "timed_out"
    make_due()
    run_jobs()
    retried.refresh()
    assert retried.return_value == "in time"


def test_the_backoff_doubles_with_full_jitter(random_backoff):
    """The delay is random from 0 to 2, 4, 8, … seconds, at most an hour."""
    for attempt, limit in ((1, 2), (2, 4), (3, 8), (12, 3600), (90, 3600)):
        delays = [retry_delay(attempt=attempt) for _ in range(400)]
        assert 0 <= min(delays) < limit * 0.1
        assert limit * 0.9 < max(delays) <= limit


@pytest.mark.parametrize("backoff", [0, 0.5, 30])
def test_the_backoff_of_a_policy(random_backoff, backoff):
    policy = Policy(retry_on=tasks.Busy, backoff=backoff)
    for attempt, limit in ((1, backoff), (2, 2 * backoff), (3, 4 * backoff), (90, 3600 if backoff else 0)):
        delays = [retry_delay(policy, attempt=attempt) for _ in range(400)]
        assert limit * 0.9 <= max(delays) <= limit


@pytest.mark.parametrize(
    ("retry_after", "shortest", "longest"),
    [
        (60, 60, 60),
        (0.5, 0.5, 2),
        (10**9, 86_400, 86_400),
        (float("inf"), 86_400, 86_400),
        pytest.param(10**400, 86_400, 86_400, id="huge"),
        (float("nan"), 0, 2),
        (-5, 0, 2),
        (True, 0, 2),
        ("60", 0, 2),
    ],
)
def test_the_delay_is_at_least_the_retry_after_of_the_exception(
    random_backoff, retry_after, shortest, longest
):
    """retry_after is a number of seconds, at most a day. Other values have no effect."""
    delays = [retry_delay(exc=tasks.Busy(retry_after)) for _ in range(100)]
    assert shortest <= min(delays) and max(delays) <= longest


def test_retry_after_is_stored():
    tasks.busy.enqueue(1, 500)
    run_jobs()
    delay = (Job.objects.get().run_after - timezone.now()).total_seconds()
    assert 490 < delay <= 500


def test_a_retry_sends_no_signal_of_a_finished_job(user):
    """The attempt sends task_started only, and each change of state raises the version."""
    received = []

    def receive(signal, **kwargs):
        received.append(signal)

    for signal in (task_started, task_finished, job_finished):
        signal.connect(receive)
    try:
        tasks.busy.using(owner=user).enqueue(9)
        version = Job.objects.get().version
        run_jobs()
    finally:
        for signal in (task_started, task_finished, job_finished):
            signal.disconnect(receive)
    assert received == [task_started]
    assert Job.objects.get().version == version + 2


@pytest.mark.django_db(transaction=True)
def test_a_retry_rings_for_the_owner(user):
    rings = []

    def receive(users, queue, **kwargs):
        rings.append((users, queue))

    tasks.busy.using(owner=user).enqueue(9)
    rung.connect(receive)
    try:
        assert run_jobs() == 1
    finally:
        rung.disconnect(receive)
    assert rings == [([user.pk], False)] * 2, "Of the claim, and of the retry."


def test_a_worker_claims_a_retry_without_a_ring(worker, user, set_bounds):
    set_bounds(retries=0.2)
    result = tasks.busy.using(owner=user).enqueue(3)
    (job,) = until_done(result)
    assert (job.state, job.attempt, job.fence, job.result) == ("succeeded", 4, 4, "4")
    assert Attempt.objects.count() == 3
    assert len(notifications_of(user)) == 1


def test_lost_and_failed_attempts_count_together(live_worker):
    tasks.busy.enqueue(9)
    run_jobs()
    Job.objects.update(run_after=None, due_at=None, max_attempts=2)
    claim_rows(live_worker(-1), 1)
    Job.objects.update(deadline=timezone.now() - timedelta(seconds=1))
    run_duty("take jobs from lost workers")
    assert Job.objects.get().state == "failed"


@task
@policy(retry_on=DATABASE_UNAVAILABLE)
def write_while_read_only(name, mode):
    """Write where PostgreSQL refuses it, as a demoted server does, or where another error came before."""
    with transaction.atomic(), connection.cursor() as cursor:
        if mode == "read-only":
            cursor.execute("SET TRANSACTION READ ONLY")
        else:
            with suppress(ProgrammingError):
                cursor.execute("SELECT * FROM no_table")
        Group.objects.create(name=name)


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="The codes are those of PostgreSQL.")
@pytest.mark.parametrize(("mode", "state"), [("read-only", "queued"), ("broken", "failed")])
def test_temporary_errors_of_the_database_match_by_their_codes(mode, state):
    """Both are an InternalError for Django. A write that is refused because the server is read-only is retried."""
    result = write_while_read_only.enqueue("x", mode)
    assert run_jobs() == 1
    job = Job.objects.get(pk=result.id)
    result.refresh()
    assert (job.state, job.attempt) == (state, 1)
    assert result.errors[0].exception_class_path == "django.db.utils.InternalError"
