"""Cancelling jobs and having them tried again."""

import json
import uuid
from datetime import timedelta
from functools import partial

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from notifications.compat import TaskResultStatus, task_finished
from notifications.exceptions import JobCancelled, TooManyJobs
from notifications.jobs.policies import DEFAULT_POLICY
from notifications.jobs.transitions import manual, outcomes, queueing, reaping, recording
from notifications.models import Attempt, Job, Notification, Stream
from notifications.signals import job_finished, rung
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.conftest import told, until_done, until_state
from tests.jobs.transitions.test_states import in_threads
from tests.support.claims import claim_rows
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def staff(transactional_db):
    return get_user_model().objects.create_user("staff", is_staff=True)


@pytest.fixture
def heard():
    """What job_finished and task_finished are sent with, as (signal's name, state)."""
    calls = []

    def job(job, **kwargs):
        calls.append(("job", job.state))

    def result(task_result, **kwargs):
        calls.append(("task", task_result.status, [error.exception_class for error in task_result.errors]))

    job_finished.connect(job)
    task_finished.connect(result)
    yield calls
    job_finished.disconnect(job)
    task_finished.disconnect(result)


def ask(task=tasks.noop, *args, **how):
    """Enqueue and return the id of the row."""
    return uuid.UUID(task.using(**how).enqueue(*args).id)


def row(id):
    return Job.objects.get(id=id)


class TestAQueuedJob:
    def test_it_is_cancelled_at_once(self, demo, heard):
        """Numbered, and nobody told: the owner knows. Django sees a failure by JobCancelled."""
        id = ask(owner=demo)
        assert manual.cancel([id], by=demo.pk) == {id: "cancelled"}
        job = row(id)
        assert (job.state, job.seq, job.attempt, job.result) == ("cancelled", 1, 0, None)
        assert job.finished_at >= job.cancel_requested_at >= job.created_at
        assert json.loads(job.error) == {
            "type": "cancelled",
            "title": "Cancelled",
            "detail": "It was cancelled.",
        }
        assert Stream.objects.get(user=demo).head == 1
        assert told(demo) == []
        assert not Attempt.objects.exists()
        result = tasks.noop.get_result(str(id))
        assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 0)
        assert [error.exception_class for error in result.errors] == [JobCancelled]
        assert heard == [("task", "FAILED", [JobCancelled]), ("job", "cancelled")]
        assert run_jobs() == 0

    @pytest.mark.parametrize("by", ["staff", "nobody"])
    def test_the_owner_is_told_of_somebody_else(self, demo, staff, by):
        id = ask(owner=demo, title="Report")
        manual.cancel([id], by=staff.pk if by == "staff" else None)
        (note,) = told(demo)
        assert (note.title, note.body, note.level) == ("Report", "It was cancelled.", "warning")
        assert (note.job, note.key) == (id, f"job:{id}")
        assert {note.seq, row(id).seq} == {1, 2}
        assert row(id).cancelled_by_other

    def test_a_job_of_nobody(self):
        id = ask()
        assert manual.cancel([id]) == {id: "cancelled"}
        assert (row(id).state, row(id).seq) == ("cancelled", 0)
        assert not Notification.objects.exists()

    def test_one_that_waits_for_another_attempt(self, demo):
        """Its attempt stays as it was; no other one is added."""
        id = ask(tasks.busy, 9, owner=demo)
        run_jobs()
        manual.cancel([id], by=demo.pk)
        assert row(id).state == "cancelled"
        assert [attempt.outcome for attempt in Attempt.objects.all()] == ["failed"]
        result = tasks.busy.get_result(str(id))
        assert [error.exception_class for error in result.errors] == [tasks.VeryBusy, JobCancelled]

    def test_a_silent_task_stays_silent(self, demo, staff):
        id = ask(tasks.silent, 1, owner=demo)
        manual.cancel([id], by=staff.pk)
        assert told(demo) == []

    def test_many(self, demo):
        """More than one transaction holds, of which some are done and some are not there."""
        with transaction.atomic():
            ids = [ask(owner=demo) for _ in range(230)]
        missing = uuid.uuid4()
        (first,) = claim_rows(uuid.uuid4(), 1)
        recording.record_outcomes([outcomes.succeeded(first, DEFAULT_POLICY, 1)])
        assert manual.cancel([*ids, missing], by=demo.pk) == dict.fromkeys(set(ids) - {first.id}, "cancelled")
        assert Job.objects.filter(state="cancelled").count() == 229
        assert max(Job.objects.values_list("seq", flat=True)) == Stream.objects.get(user=demo).head

    def test_again(self, demo):
        id = ask(owner=demo)
        manual.cancel([id])
        version = row(id).version
        assert manual.cancel([id]) == {}
        assert row(id).version == version
        assert len(told(demo)) == 1

    def test_in_a_transaction_it_is_put_off(self, demo):
        """A rollback cancels nothing."""
        id = ask(owner=demo)
        with transaction.atomic():
            assert manual.cancel([id], by=demo.pk) == {id: "asked"}
            assert row(id).state == "queued"
        assert row(id).state == "cancelled"
        other = ask(owner=demo)
        with pytest.raises(RuntimeError), transaction.atomic():
            manual.cancel([other], by=demo.pk)
            raise RuntimeError
        assert row(other).state == "queued"


class TestARunningJob:
    def test_it_is_only_asked_to_end(self, demo, live):
        id = ask(owner=demo)
        (job,) = claim_rows(live(), 1)
        assert manual.cancel([id], by=demo.pk) == {id: "asked"}
        now = row(id)
        assert (now.state, now.version, now.fence) == ("running", job.version + 1, job.fence)
        assert manual.cancellations_requested(job.worker) == [(id, 1, False)]
        asked_at = now.cancel_requested_at
        assert manual.cancel([id]) == {id: "asked"}, "Who asked first is who did it."
        assert (row(id).cancel_requested_at, row(id).cancelled_by_other) == (asked_at, False)

    def test_it_rings_the_workers(self, demo, live):
        id = ask(owner=demo)
        claim_rows(live(), 1)
        rings = []

        def hear(users, queue, **kwargs):
            rings.append((users, queue))

        rung.connect(hear)
        try:
            manual.cancel([id], by=demo.pk)
        finally:
            rung.disconnect(hear)
        assert rings == [([demo.pk], True)]

    def test_a_result_that_is_stored_first_wins(self, demo, live):
        id = ask(owner=demo)
        (job,) = claim_rows(live(), 1)
        manual.cancel([id], by=demo.pk)
        recording.record_outcomes([outcomes.succeeded(job, DEFAULT_POLICY, "done")])
        assert (row(id).state, row(id).result) == ("succeeded", '"done"')
        assert manual.cancel([id], by=demo.pk) == {}

    def test_it_is_not_tried_again(self, demo, live):
        """The end of an attempt that would be followed by another one is the end of the job."""
        id = ask(tasks.busy, 9, owner=demo)
        (job,) = claim_rows(live(), 1)
        manual.cancel([id])
        outcome = outcomes.failed(job, tasks.busy.func._notifications_policy, tasks.Busy())
        assert outcome.retry_delay is not None
        ((stored,), _) = recording.record_outcomes([outcome])
        assert (row(id).state, row(id).run_after, stored.state) == ("cancelled", None, "cancelled")
        assert [note.body for note in told(demo)] == ["It was cancelled."]

    def test_its_worker_is_lost(self, demo, live):
        """It has attempts left, but nobody wants it any more."""
        id = ask(owner=demo)
        claim_rows(live(-1), 1)
        manual.cancel([id], by=demo.pk)
        reaping.reap_jobs()
        assert row(id).state == "cancelled"
        assert Attempt.objects.get().outcome == "cancelled"
        assert told(demo) == []

    def test_its_worker_gave_it_back(self, demo, live):
        """Whoever claims it ends it without calling the task."""
        id = ask(tasks.fail, owner=demo)
        (job,) = claim_rows(live(), 1)
        manual.cancel([id], by=demo.pk)
        queueing.release([job])
        assert row(id).state == "queued"
        run_jobs()
        assert row(id).state == "cancelled"
        assert not Attempt.objects.filter(outcome="failed").exists()


class TestOnAWorker:
    def test_an_async_task_is_ended_where_it_awaits(self, worker, demo, gate, heard):
        id = ask(tasks.hold, "a", owner=demo)
        wait_until(lambda: tasks.held, what="the task to run")
        manual.cancel([id], by=demo.pk)
        (job,) = until_done(tasks.hold.get_result(str(id)))
        assert (job.state, job.attempt, job.worker) == ("cancelled", 1, worker.id)
        assert job.seq is not None
        assert tasks.seen == ["cancelled a"]
        assert Attempt.objects.get().outcome == "cancelled"
        result = tasks.hold.get_result(str(id))
        assert [error.exception_class for error in result.errors] == [JobCancelled]
        wait_until(lambda: len(heard) == 2, what="the signals")
        assert told(demo) == []

    def test_a_sync_task_ends_when_it_looks(self, worker, demo, staff, gate):
        id = ask(tasks.hold_until_cancelled, owner=demo)
        wait_until(lambda: tasks.held, what="the task to run")
        manual.cancel([id], by=staff.pk)
        (job,) = until_done(tasks.hold_until_cancelled.get_result(str(id)))
        assert job.state == "cancelled"
        assert [note.level for note in told(demo)] == ["warning"]

    def test_a_sync_task_that_does_not_look(self, worker, demo, gate):
        """It ends as it ends."""
        id = ask(tasks.hold_sync, "x", owner=demo)
        wait_until(lambda: tasks.held, what="the task to run")
        manual.cancel([id], by=demo.pk)
        wait_until(
            lambda: all(run.is_cancelling for run in worker.worker._executions.values()), what="the worker"
        )
        gate.set()
        (job,) = until_done(tasks.hold_sync.get_result(str(id)))
        assert (job.state, job.result) == ("succeeded", '"x"')

    def test_one_in_line_for_a_thread(self, start_worker, demo, gate, monkeypatch):
        """It is cancelled before the thread is free, and never called."""
        monkeypatch.setattr("notifications.jobs.worker.job_runner.MAX_SYNC_THREADS", 1)
        start_worker()
        first = ask(tasks.hold_sync, "first")
        wait_until(lambda: tasks.held, what="the thread to be held")
        second = ask(tasks.hold_sync, "second", owner=demo)
        Job.objects.filter(id=second).update(lane="async")  # claimed although no thread is free
        until_state(tasks.hold_sync.get_result(str(second)), "running")
        manual.cancel([second], by=demo.pk)
        (job,) = until_done(tasks.hold_sync.get_result(str(second)))
        assert job.state == "cancelled"
        gate.set()
        until_done(tasks.hold_sync.get_result(str(first)))
        assert tasks.held == ["first"]

    @pytest.mark.parametrize(
        ("task", "args", "state"),
        [
            (tasks.finish_nevertheless, (), "succeeded"),
            (tasks.fail_when_cancelled, ("other",), "failed"),
            (tasks.fail_when_cancelled, ("busy",), "cancelled"),
        ],
    )
    def test_what_a_task_makes_of_it(self, worker, demo, gate, task, args, state):
        """A value is a success, an error a failure, but never one that is tried again."""
        id = ask(task, *args, owner=demo)
        wait_until(lambda: tasks.held, what="the task to run")
        manual.cancel([id], by=demo.pk)
        (job,) = until_done(task.get_result(str(id)))
        assert (job.state, job.attempt) == (state, 1)

    def test_nobody_asked(self, worker, demo):
        """A task that says that it was cancelled, and was not, has failed."""
        id = ask(tasks.cancelled_without_being_asked, owner=demo)
        (job,) = until_done(tasks.cancelled_without_being_asked.get_result(str(id)))
        assert job.state == "failed"
        assert len(told(demo)) == 1

    def test_neighbours_go_on(self, worker, demo, gate):
        ids = [ask(tasks.hold, number, owner=demo) for number in range(6)]
        wait_until(lambda: len(tasks.held) == 6, what="all to run")
        manual.cancel(ids[::2], by=demo.pk)
        until_done(*(tasks.hold.get_result(str(id)) for id in ids[::2]))
        assert {row(id).state for id in ids[1::2]} == {"running"}
        gate.set()
        until_done(*(tasks.hold.get_result(str(id)) for id in ids))
        assert [row(id).state for id in ids] == ["cancelled", "succeeded"] * 3

    def test_without_a_ring(self, start_worker, demo, gate):
        """The worker looks each second anyway."""
        start_worker(listen=None)
        id = ask(tasks.hold, owner=demo)
        wait_until(lambda: tasks.held, what="the task to run")
        manual.cancel([id], by=demo.pk)
        assert until_done(tasks.hold.get_result(str(id)))[0].state == "cancelled"


@pytest.mark.parametrize("round", range(4))
def test_cancel_against_claim_and_finish(demo, live, round):
    """At once: each job has one end, is numbered once, and none is left over."""
    with transaction.atomic():
        ids = [ask(owner=demo) for _ in range(60)]
    worker = live()

    def work():
        while jobs := claim_rows(worker, 7):
            waiting = [outcomes.succeeded(job, DEFAULT_POLICY, None) for job in jobs]
            while waiting:
                stored, void = recording.record_outcomes(waiting)
                assert not void
                waiting = [outcome for outcome in waiting if outcome not in stored]

    in_threads(work, partial(manual.cancel, ids, by=demo.pk))
    work()  # what was skipped because it was locked
    jobs = list(Job.objects.all())
    assert {job.state for job in jobs} <= {"succeeded", "cancelled"}
    notes = told(demo)
    assert {note.job for note in notes} == {job.id for job in jobs if job.state == "succeeded"}
    seqs = sorted([job.seq for job in jobs] + [note.seq for note in notes])
    assert seqs == list(range(1, len(seqs) + 1))


class TestRetry:
    @pytest.mark.parametrize("how", ["failed", "cancelled"])
    def test_a_job_that_ended_badly_is_queued_again(self, demo, how):
        """The same id, a new fence and version, as many attempts more; the attempts are kept."""
        id = ask(tasks.fail, owner=demo)
        manual.cancel([id], by=demo.pk) if how == "cancelled" else run_jobs()
        before = row(id)
        assert manual.retry([id]) == [id]
        job = row(id)
        assert (job.state, job.seq, job.version, job.fence) == (
            "queued",
            0,
            before.version + 1,
            before.fence + 1,
        )
        assert (job.result, job.error, job.finished_at, job.cancel_requested_at) == (None, None, None, None)
        assert (job.run_after, job.worker, job.deadline, job.progress_current) == (None, None, None, None)
        assert (job.attempt, job.max_attempts) == (before.attempt, before.attempt + 3)
        assert job.queued_at > before.queued_at and job.created_at == before.created_at
        assert Attempt.objects.count() == before.attempt
        assert run_jobs() == 1
        job = row(id)
        assert (job.state, job.attempt) == ("failed", before.attempt + 1)

    def test_the_new_word_replaces_the_old_one(self, demo):
        id = ask(tasks.fail, owner=demo)
        run_jobs()
        manual.retry([id])
        run_jobs()
        old, new = told(demo)
        assert old.archived_at is not None and new.archived_at is None
        assert Stream.objects.get(user=demo).unread == 1

    @pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
    def test_others_are_left_alone(self, demo, live, state):
        id = ask(owner=demo)
        if state != "queued":
            (job,) = claim_rows(live(), 1)
        if state == "succeeded":
            recording.record_outcomes([outcomes.succeeded(job, DEFAULT_POLICY, 1)])
        before = Job.objects.filter(id=id).values().get()
        assert manual.retry([id]) == []
        assert Job.objects.filter(id=id).values().get() == before

    def test_a_late_outcome_of_before_is_void(self, demo, live):
        """A worker that was frozen holds a fence that is not the job's any more."""
        id = ask(owner=demo)
        (job,) = claim_rows(live(), 1)
        Job.objects.filter(id=id).update(state="failed", finished_at=timezone.now())
        manual.retry([id])
        stale = outcomes.succeeded(job, DEFAULT_POLICY, "late")
        assert recording.record_outcomes([stale]) == ([], [stale])
        (again,) = claim_rows(live(), 1)
        assert again.fence == job.fence + 2
        assert recording.record_outcomes([stale]) == ([], [stale])

    def test_it_counts_among_the_active_jobs(self, demo, settings):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 2}
        ids = [ask(tasks.fail, owner=demo) for _ in range(2)]
        run_jobs()
        ask(owner=demo)
        with pytest.raises(TooManyJobs, match="There are 2 active jobs already"):
            manual.retry(ids)
        assert {row(id).state for id in ids} == {"failed"}, "None of the group is queued by halves."
        assert manual.retry(ids[:1]) == ids[:1]

    def test_a_task_that_is_gone(self, demo):
        """It is queued all the same: another worker may know it."""
        id = ask(tasks.fail, owner=demo)
        run_jobs()
        Job.objects.update(task_path="tests.jobs.tasks.gone")
        assert manual.retry([id]) == [id]

    def test_a_worker_hears_of_it(self, worker, demo):
        id = ask(tasks.fail, owner=demo)
        until_done(tasks.fail.get_result(str(id)))
        manual.retry([id])
        wait_until(lambda: row(id).attempt == 2 and row(id).done, what="the second attempt")

    def test_in_a_transaction_it_is_put_off(self, demo):
        id = ask(tasks.fail, owner=demo)
        run_jobs()
        with transaction.atomic():
            assert manual.retry([id]) == [id]
            assert row(id).state == "failed"
        assert row(id).state == "queued"

    def test_a_job_that_was_for_later_begins_now(self, demo):
        id = ask(owner=demo, run_after=timezone.now() + timedelta(hours=1))
        manual.cancel([id], by=demo.pk)
        manual.retry([id])
        assert run_jobs() == 1
