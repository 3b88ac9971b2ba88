"""Manual cancellation of queued jobs and of running ones."""

import asyncio
import json
import uuid

import pytest
from django.db import transaction

from notifications.api import policy, task
from notifications.exceptions import JobCancelled
from notifications.jobs import cancel, retry
from notifications.models import Attempt, Job, Notification, Stream
from notifications.signals import job_finished, rung
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of, until_done, until_state
from tests.support.claims import claim_rows
from tests.support.django_tasks import TaskResultStatus, task_finished
from tests.support.duties import run_duty
from tests.support.outcomes import failed, record, release, succeeded
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@task
async def finish_nevertheless():
    tasks.held.append("finish")
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        return "done"


@task
async def cancelled_without_being_asked():
    raise JobCancelled


#: What the notify function of a task calls, once. A cancellation calls it when the jobs are read, before it locks them.
meanwhile = []


def call_meanwhile(job):
    while meanwhile:
        meanwhile.pop()()
    return {}


@task
@policy(notify=call_meanwhile)
async def watched():
    pass


@pytest.fixture
def received():
    """The calls of receivers of job_finished and task_finished, as (kind, state)."""
    calls = []

    def receive_job(job, **kwargs):
        calls.append(("job", job.state))

    def receive_result(task_result, **kwargs):
        calls.append(("task", task_result.status, [error.exception_class for error in task_result.errors]))

    job_finished.connect(receive_job)
    task_finished.connect(receive_result)
    yield calls
    job_finished.disconnect(receive_job)
    task_finished.disconnect(receive_result)


def enqueue(task=tasks.noop, *args, **options):
    """Enqueue a job and return its id."""
    return uuid.UUID(task.using(**options).enqueue(*args).id)


def row(id):
    return Job.objects.get(id=id)


class TestQueuedJob:
    def test_it_is_cancelled_immediately(self, user, received):
        """It gets a number, but no notification for the owner who cancelled it. Its TaskResult is FAILED."""
        id = enqueue(owner=user)
        assert cancel([id], by=user.pk) == {id: "cancelled"}
        job = row(id)
        assert (job.state, job.seq, job.attempt, job.result) == ("cancelled", 1, 0, None)
        assert job.finished_at >= job.cancel_requested_at >= job.created_at
        assert json.loads(job.error) == {
            "type": "cancelled",
            "title": "Cancelled",
            "detail": "It was cancelled.",
        }
        assert Stream.objects.get(user=user).head == 1
        assert notifications_of(user) == []
        assert not Attempt.objects.exists()
        result = tasks.noop.get_result(str(id))
        assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 0)
        assert [error.exception_class for error in result.errors] == [JobCancelled]
        assert received == [("task", "FAILED", [JobCancelled]), ("job", "cancelled")]
        assert run_jobs() == 0

    @pytest.mark.parametrize("by", ["another user", None])
    def test_the_owner_is_notified_of_a_cancellation_by_another_user(self, user, other_user, by):
        id = enqueue(owner=user, title="Report")
        cancel([id], by=other_user.pk if by else None)
        (note,) = notifications_of(user)
        assert (note.title, note.body, note.level) == ("Report", "It was cancelled.", "warning")
        assert (note.job, note.key) == (id, f"job:{id}")
        assert {note.seq, row(id).seq} == {1, 2}
        assert row(id).cancelled_by_other

    def test_a_job_without_an_owner(self):
        id = enqueue()
        assert cancel([id]) == {id: "cancelled"}
        assert (row(id).state, row(id).seq) == ("cancelled", 0)
        assert not Notification.objects.exists()

    def test_a_job_that_waits_for_a_retry(self, user):
        """Its failed attempt is kept, and no other attempt is added."""
        id = enqueue(tasks.busy, 9, owner=user)
        run_jobs()
        cancel([id], by=user.pk)
        assert row(id).state == "cancelled"
        assert [attempt.outcome for attempt in Attempt.objects.all()] == ["failed"]
        result = tasks.busy.get_result(str(id))
        assert [error.exception_class for error in result.errors] == [tasks.VeryBusy, JobCancelled]

    def test_a_policy_without_notifications(self, user, other_user):
        id = enqueue(tasks.silent, 1, owner=user)
        cancel([id], by=other_user.pk)
        assert notifications_of(user) == []

    def test_more_jobs_than_one_transaction_takes(self, user):
        """Jobs that are done or do not exist are not in the return value."""
        with transaction.atomic():
            ids = [enqueue(owner=user) for _ in range(230)]
        missing = uuid.uuid4()
        (first,) = claim_rows(uuid.uuid4(), 1)
        assert record(succeeded(first, 1))
        assert cancel([*ids, missing], by=user.pk) == dict.fromkeys(set(ids) - {first.id}, "cancelled")
        assert Job.objects.filter(state="cancelled").count() == 229
        assert max(Job.objects.values_list("seq", flat=True)) == Stream.objects.get(user=user).head

    def test_a_second_time(self, user):
        id = enqueue(owner=user)
        cancel([id])
        version = row(id).version
        assert cancel([id]) == {}
        assert row(id).version == version
        assert len(notifications_of(user)) == 1

    def test_in_a_transaction_it_is_cancelled_after_the_commit(self, user):
        """A rollback cancels nothing."""
        id = enqueue(owner=user)
        with transaction.atomic():
            assert cancel([id], by=user.pk) == {id: "asked"}
            assert row(id).state == "queued"
        assert row(id).state == "cancelled"
        other = enqueue(owner=user)
        with pytest.raises(RuntimeError), transaction.atomic():
            cancel([other], by=user.pk)
            raise RuntimeError
        assert row(other).state == "queued"

    def test_its_claim_while_it_is_being_cancelled(self, user, live_worker):
        """It is queued again before its row is locked, with another fence than the outcome was made for."""
        id = enqueue(watched, owner=user)

        def claim_and_requeue():
            [job] = claim_rows(live_worker(), 1)
            release(job)

        meanwhile.append(claim_and_requeue)
        assert cancel([id]) == {id: "cancelled"}
        assert (row(id).state, row(id).fence) == ("cancelled", 1)
        assert len(notifications_of(user)) == 1

    def test_a_job_that_is_retried_meanwhile(self, user):
        """It was done when the jobs were read, so it is not cancelled."""
        done, queued = enqueue(owner=user), enqueue(watched, owner=user)
        cancel([done], by=user.pk)
        meanwhile.append(lambda: retry([done]))
        assert cancel([done, queued]) == {queued: "cancelled"}
        assert row(done).state == "queued"


class TestRunningJob:
    def test_its_cancellation_is_requested(self, user, live_worker):
        id = enqueue(owner=user)
        (job,) = claim_rows(live_worker(), 1)
        assert cancel([id], by=user.pk) == {id: "asked"}
        now = row(id)
        assert (now.state, now.version, now.fence) == ("running", job.version + 1, job.fence)
        requested_at = now.cancel_requested_at
        assert cancel([id]) == {id: "asked"}, "The first request counts."
        assert (row(id).cancel_requested_at, row(id).cancelled_by_other) == (requested_at, False)

    def test_it_rings_for_the_workers(self, user, live_worker):
        id = enqueue(owner=user)
        claim_rows(live_worker(), 1)
        rings = []

        def receive(users, queue, **kwargs):
            rings.append((users, queue))

        rung.connect(receive)
        try:
            cancel([id], by=user.pk)
        finally:
            rung.disconnect(receive)
        assert rings == [([user.pk], True)]

    def test_a_result_that_is_stored_first_wins(self, user, live_worker):
        id = enqueue(owner=user)
        (job,) = claim_rows(live_worker(), 1)
        cancel([id], by=user.pk)
        assert record(succeeded(job, "done"))
        assert (row(id).state, row(id).result) == ("succeeded", '"done"')
        assert cancel([id], by=user.pk) == {}

    def test_it_is_not_retried(self, user, live_worker):
        """An attempt that fails, and would be retried, ends the job."""
        id = enqueue(tasks.busy, 9, owner=user)
        (job,) = claim_rows(live_worker(), 1)
        cancel([id])
        outcome = failed(job, tasks.Busy(), tasks.busy.func._notifications_policy)
        assert outcome.retry_delay is not None
        assert record(outcome)
        assert (row(id).state, row(id).run_after) == ("cancelled", None)
        assert [note.body for note in notifications_of(user)] == ["It was cancelled."]

    def test_its_worker_is_lost(self, user, live_worker):
        """It has attempts left, but is not queued again."""
        id = enqueue(owner=user)
        claim_rows(live_worker(-1), 1)
        cancel([id], by=user.pk)
        run_duty("take jobs from lost workers")
        assert row(id).state == "cancelled"
        assert Attempt.objects.get().outcome == "cancelled"
        assert notifications_of(user) == []

    def test_its_worker_released_it(self, user, live_worker):
        """The next worker that claims it ends it without calling the task."""
        id = enqueue(tasks.fail, owner=user)
        (job,) = claim_rows(live_worker(), 1)
        cancel([id], by=user.pk)
        release(job)
        assert row(id).state == "queued"
        run_jobs()
        assert row(id).state == "cancelled"
        assert not Attempt.objects.filter(outcome="failed").exists()

    @pytest.mark.parametrize("is_owner_first", [True, False])
    def test_its_second_cancellation_after_its_release(self, user, live_worker, is_owner_first):
        """Who requested it first decides whether its owner is notified."""
        id = enqueue(owner=user)
        (job,) = claim_rows(live_worker(), 1)
        first, second = (user.pk, None) if is_owner_first else (None, user.pk)
        cancel([id], by=first)
        release(job)
        assert cancel([id], by=second) == {id: "cancelled"}
        assert row(id).cancelled_by_other is not is_owner_first
        assert len(notifications_of(user)) == (not is_owner_first)


class TestOnWorker:
    def test_an_async_task_is_cancelled_where_it_awaits(self, worker, user, gate, received):
        id = enqueue(tasks.hold, "a", owner=user)
        wait_until(lambda: tasks.held, what="the task to run")
        cancel([id], by=user.pk)
        (job,) = until_done(tasks.hold.get_result(str(id)))
        assert (job.state, job.attempt, job.worker) == ("cancelled", 1, worker.id)
        assert job.seq is not None
        assert tasks.seen == ["cancelled a"]
        assert Attempt.objects.get().outcome == "cancelled"
        result = tasks.hold.get_result(str(id))
        assert [error.exception_class for error in result.errors] == [JobCancelled]
        wait_until(lambda: len(received) == 2, what="the signals")
        assert notifications_of(user) == []

    def test_a_sync_task_that_checks_for_its_cancellation(self, worker, user, other_user, gate):
        id = enqueue(tasks.hold_until_cancelled, owner=user)
        wait_until(lambda: tasks.held, what="the task to run")
        cancel([id], by=other_user.pk)
        (job,) = until_done(tasks.hold_until_cancelled.get_result(str(id)))
        assert job.state == "cancelled"
        assert [note.level for note in notifications_of(user)] == ["warning"]

    def test_a_sync_task_that_does_not_check(self, worker, user, gate):
        """It ends with its own result."""
        id = enqueue(tasks.hold_sync, "x", owner=user)
        wait_until(lambda: tasks.held, what="the task to run")
        cancel([id], by=user.pk)
        wait_until(
            lambda: all(run.is_cancelling for run in worker.worker.state.executions.values()),
            what="the worker",
        )
        gate.set()
        (job,) = until_done(tasks.hold_sync.get_result(str(id)))
        assert (job.state, job.result) == ("succeeded", '"x"')

    def test_a_sync_task_that_does_not_check_until_its_timeout(self, worker, user, gate):
        """Its user has got the end that they asked for: it has not failed."""
        id = enqueue(tasks.slow_sync, owner=user)
        wait_until(lambda: tasks.held, what="the task to run")
        cancel([id], by=user.pk)
        (job,) = until_done(tasks.slow_sync.get_result(str(id)))
        assert (job.state, Attempt.objects.get().outcome) == ("cancelled", "cancelled")
        assert notifications_of(user) == []

    def test_a_sync_task_in_line_for_a_thread(self, start_worker, user, gate, one_sync_thread):
        """The job is cancelled before a thread is free, and the task is never called."""
        start_worker()
        first = enqueue(tasks.hold_sync, "first")
        wait_until(lambda: tasks.held, what="the thread to be held")
        second = enqueue(tasks.hold_sync, "second", owner=user)
        Job.objects.filter(id=second).update(executor="async")  # claimed although no thread is free
        until_state(tasks.hold_sync.get_result(str(second)), "running")
        cancel([second], by=user.pk)
        (job,) = until_done(tasks.hold_sync.get_result(str(second)))
        assert job.state == "cancelled"
        gate.set()
        until_done(tasks.hold_sync.get_result(str(first)))
        assert tasks.held == ["first"]

    @pytest.mark.parametrize(
        ("task", "args", "state"),
        [
            (finish_nevertheless, (), "succeeded"),
            (tasks.fail_when_cancelled, ("other",), "failed"),
            (tasks.fail_when_cancelled, ("busy",), "cancelled"),
        ],
    )
    def test_a_task_that_catches_its_cancellation(self, worker, user, gate, task, args, state):
        """A return value is a success and an exception a failure, which is never retried."""
        id = enqueue(task, *args, owner=user)
        wait_until(lambda: tasks.held, what="the task to run")
        cancel([id], by=user.pk)
        (job,) = until_done(task.get_result(str(id)))
        assert (job.state, job.attempt) == (state, 1)

    def test_a_cancellation_that_was_not_requested(self, worker, user):
        """A task that raises JobCancelled by itself has failed."""
        id = enqueue(cancelled_without_being_asked, owner=user)
        (job,) = until_done(cancelled_without_being_asked.get_result(str(id)))
        assert job.state == "failed"
        assert len(notifications_of(user)) == 1

    def test_other_jobs_are_not_affected(self, worker, user, gate):
        ids = [enqueue(tasks.hold, number, owner=user) for number in range(6)]
        wait_until(lambda: len(tasks.held) == 6, what="all to run")
        cancel(ids[::2], by=user.pk)
        until_done(*(tasks.hold.get_result(str(id)) for id in ids[::2]))
        assert {row(id).state for id in ids[1::2]} == {"running"}
        gate.set()
        until_done(*(tasks.hold.get_result(str(id)) for id in ids))
        assert [row(id).state for id in ids] == ["cancelled", "succeeded"] * 3

    def test_on_a_worker_without_a_doorbell(self, start_worker, user, gate):
        """The worker reads requests once a second anyway."""
        start_worker(listen=None)
        id = enqueue(tasks.hold, owner=user)
        wait_until(lambda: tasks.held, what="the task to run")
        cancel([id], by=user.pk)
        assert until_done(tasks.hold.get_result(str(id)))[0].state == "cancelled"


@pytest.mark.parametrize("round", range(4))
def test_concurrent_cancelling_claiming_and_recording(user, worker, round):
    """Each job ends once and is numbered once, and none stays active."""
    with transaction.atomic():
        ids = [enqueue(owner=user) for _ in range(60)]
    cancel(ids, by=user.pk)
    jobs = until_done(*(tasks.noop.get_result(str(id)) for id in ids))
    assert {job.state for job in jobs} <= {"succeeded", "cancelled"}
    notes = notifications_of(user)
    assert {note.job for note in notes} == {job.id for job in jobs if job.state == "succeeded"}
    seqs = sorted([job.seq for job in jobs] + [note.seq for note in notes])
    assert seqs == list(range(1, len(seqs) + 1))
