"""A worker in a process of an engine: it runs the jobs that it is given, and its callers wait for as long as needed."""

import asyncio
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from django.db import OperationalError

from notifications.contrib.engines import dispatch_loop, dispatched_jobs, senders
from notifications.contrib.engines.dispatched_jobs import DispatchedJobEnd, WaitFor
from notifications.contrib.engines.group_delay import GroupDelay
from notifications.ids import uuid7
from notifications.models import Job
from notifications.worker import record_loop
from notifications.worker import worker as worker_module
from tests.contrib.engines import tasks as engine_tasks
from tests.jobs import tasks
from tests.jobs.conftest import until_state
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("with_engine")


@pytest.fixture
def engine_worker(start_worker, settings):
    """A worker of an engine, with two slots for jobs whose callers do not wait for their end."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "CONCURRENCY": 2}
    return start_worker(engine="tests").worker


@pytest.fixture
def callers():
    """Threads of an engine's pool."""
    with ThreadPoolExecutor(4) as threads:
        yield threads


def enqueue(task=tasks.hold, *args):
    return Job.objects.get(pk=task.enqueue(*args).id)


def until_succeeded(*jobs):
    """Wait until these jobs have succeeded."""
    rows = Job.objects.filter(id__in=[job.id for job in jobs], state="succeeded")
    wait_until(lambda: rows.count() == len(jobs), what="the jobs to succeed")


def test_worker_runs_what_it_is_given(engine_worker):
    """And nothing else of the queue."""
    other, job = enqueue(tasks.noop), enqueue(tasks.noop)
    assert engine_worker.run_dispatched_job(job.id) == DispatchedJobEnd.RECORDED
    job.refresh_from_db()
    other.refresh_from_db()
    assert (job.state, other.state) == ("succeeded", "queued")


@pytest.mark.parametrize("task", [tasks.noop, tasks.busy])
def test_quarantined_jobs_run_one_after_another(start_worker, callers, monkeypatch, task):
    """Without a pause between them, also after one that is tried again: here the next round is after minutes."""
    jobs = [
        enqueue(task, *([1, 600] if task is tasks.busy else [])),
        *(enqueue(tasks.noop) for _ in range(4)),
    ]
    Job.objects.update(executor="engine_quarantined", dispatched_at=None, next_dispatch_at=None)
    sent, started = [], Future()

    def send(jobs):
        sent.extend(job.id for job in jobs)
        for job in jobs:
            callers.submit(lambda id=job.id: started.result(60).run_dispatched_job(id))

    monkeypatch.setattr(senders, "send", send)
    monkeypatch.setattr(worker_module, "DISPATCH_INTERVAL_SECONDS", 600)
    monkeypatch.setattr(dispatch_loop, "ROUND_INTERVAL_SECONDS", 600)
    monkeypatch.setattr(dispatch_loop, "_last_search", time.monotonic() - 600)
    started.set_result(start_worker(engine="tests", dispatch=dispatch_loop.run_round).worker)
    until_succeeded(*jobs[1:])
    assert sent == [job.id for job in jobs]


def test_id_of_no_job(engine_worker):
    assert engine_worker.run_dispatched_job(uuid7()) == DispatchedJobEnd.NOT_CLAIMED


def test_doubled_id(engine_worker, callers, gate):
    """While the job waits to be claimed, runs, or is done."""
    job = enqueue()
    ends = [callers.submit(engine_worker.run_dispatched_job, job.id) for _ in range(2)]
    until_state(job, "running")
    assert engine_worker.run_dispatched_job(job.id) == DispatchedJobEnd.NOT_CLAIMED
    gate.set()
    assert sorted(end.result(30) for end in ends) == [DispatchedJobEnd.NOT_CLAIMED, DispatchedJobEnd.RECORDED]
    assert engine_worker.run_dispatched_job(job.id) == DispatchedJobEnd.NOT_CLAIMED


def test_callers_of_async_jobs_wait_for_a_slot_only(engine_worker, callers, gate):
    """Two jobs are taken in at once, and the third when one of them is recorded."""
    jobs = [enqueue(tasks.hold, str(number)) for number in range(3)]
    for job in jobs[:2]:
        assert engine_worker.run_dispatched_job(job.id, WaitFor.SLOT) == DispatchedJobEnd.ACCEPTED
    third = callers.submit(engine_worker.run_dispatched_job, jobs[2].id, WaitFor.SLOT)
    wait_until(lambda: sorted(tasks.held) == ["0", "1"], what="two jobs to run")
    assert not third.done()
    gate.set()
    assert third.result(30) == DispatchedJobEnd.ACCEPTED
    until_succeeded(*jobs)


@pytest.mark.parametrize(
    ("locked_claims", "end"), [(2, DispatchedJobEnd.RECORDED), (99, DispatchedJobEnd.NOT_CLAIMED)]
)
def test_claim_that_met_another_one_of_its_limit_is_tried_again(
    engine_worker, monkeypatch, locked_claims, end
):
    """Without another message. If it stays locked, the job is dispatched again at once, not after 10 s."""
    claim = dispatched_jobs.claims.claim_dispatched_jobs
    calls = []

    def claim_dispatched_jobs(worker, ids, timeouts, **options):
        calls.append(ids)
        return ([], set(ids)) if len(calls) <= locked_claims else claim(worker, ids, timeouts, **options)

    monkeypatch.setattr(dispatched_jobs.claims, "claim_dispatched_jobs", claim_dispatched_jobs)
    job = enqueue(tasks.noop)
    assert engine_worker.run_dispatched_job(job.id) == end
    job.refresh_from_db()
    assert (job.state, job.executor) == (
        "succeeded" if end == DispatchedJobEnd.RECORDED else "queued",
        "engine",
    )


def test_slot_of_a_job_that_may_not_run_is_free(engine_worker):
    for _ in range(5):
        assert engine_worker.run_dispatched_job(uuid7(), WaitFor.SLOT) == DispatchedJobEnd.ACCEPTED


def test_slot_of_a_job_that_waits_for_others_is_free(engine_worker, callers):
    """More parents than slots."""
    parents = [enqueue(engine_tasks.parent, number) for number in range(3)]

    def run_what_is_queued():
        for job in Job.objects.filter(state="queued"):
            callers.submit(engine_worker.run_dispatched_job, job.id, WaitFor.SLOT)
        return not Job.objects.exclude(state="succeeded").exists()

    wait_until(run_what_is_queued, what="all jobs to succeed", every=0.1)
    until_succeeded(*parents)


def test_caller_of_a_sync_job_waits_for_its_end(engine_worker, callers, gate):
    """Not for the record of its outcome, which a failing database delays."""
    job = enqueue(tasks.hold_sync)
    end = callers.submit(engine_worker.run_dispatched_job, job.id, WaitFor.END)
    until_state(job, "running")
    assert not end.done()
    gate.set()
    assert end.result(30) == DispatchedJobEnd.ENDED
    until_succeeded(job)


def test_stop_releases_callers_and_jobs(start_worker, settings, callers):
    """A job that runs, one that was taken in, and one that waits for a slot are dispatched again."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "CONCURRENCY": 1}
    local = start_worker(engine="tests")
    running, waiting = enqueue(), enqueue()
    assert local.worker.run_dispatched_job(running.id, WaitFor.SLOT) == DispatchedJobEnd.ACCEPTED
    until_state(running, "running")
    end = callers.submit(local.worker.run_dispatched_job, waiting.id, WaitFor.SLOT)
    wait_until(lambda: local.worker._dispatched_jobs._waiting, what="the caller to wait for a slot")
    local.stop()
    assert end.result(30) == DispatchedJobEnd.STOPPED
    assert set(Job.objects.values_list("state", "executor")) == {("queued", "engine")}


def test_children_run_although_many_parents_wait(start_worker, settings, callers, monkeypatch):
    """Their ids are behind those of all parents, whose callers are not released then."""
    monkeypatch.setattr(dispatched_jobs, "MAX_WAITING_PER_SLOT", 1)
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "CONCURRENCY": 1}
    worker = start_worker(engine="tests").worker
    parents = [enqueue(engine_tasks.parent, number) for number in range(3)]
    for parent in parents:
        callers.submit(worker.run_dispatched_job, parent.id, WaitFor.SLOT)
    until_succeeded(*parents)


def test_caller_does_not_wait_long_for_a_claim(engine_worker, callers, monkeypatch):
    """As while the database is away: an engine that limits the time of its tasks would kill the process.

    Nor does one that comes while the claim of another job is tried again.
    """
    monkeypatch.setattr("notifications.contrib.engines.worker.MAX_CLAIM_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(engine_worker._dispatched_jobs, "_claim", fail_for_ever)
    first = callers.submit(engine_worker.run_dispatched_job, enqueue(tasks.noop).id)
    wait_until(lambda: engine_worker._dispatched_jobs._unclaimed, what="the first claim")
    second = callers.submit(engine_worker.run_dispatched_job, enqueue(tasks.noop).id)
    assert [first.result(30), second.result(30)] == [DispatchedJobEnd.STOPPED] * 2


def fail_for_ever(ids):
    raise OperationalError("The database is away.")


def test_id_of_a_retry_that_comes_early(engine_worker, callers, gate):
    """Before this process has seen that the attempt is recorded: the job is claimed again then."""
    job = enqueue()
    end = callers.submit(engine_worker.run_dispatched_job, job.id)
    until_state(job, "running")
    dispatched = engine_worker._dispatched_jobs
    assert engine_worker.run_dispatched_job(job.id) == DispatchedJobEnd.NOT_CLAIMED
    assert dispatched._doubled == {job.id}
    gate.set()
    assert end.result(30) == DispatchedJobEnd.RECORDED
    wait_until(
        lambda: not dispatched._doubled and not dispatched._unclaimed, what="the id to be claimed again"
    )


class TestDelayOfABusyProcess:
    """Transactions are delayed, so that they cover more jobs, if no caller waits for them."""

    @pytest.fixture
    def transactions(self, monkeypatch):
        """How many jobs each transaction has claimed, and recorded."""
        counts = {"claimed": [], "recorded": []}
        claim, finish = dispatched_jobs.claims.claim_dispatched_jobs, record_loop.finish_jobs

        def claim_dispatched_jobs(worker, ids, timeouts, **options):
            counts["claimed"].append(len(ids))
            return claim(worker, ids, timeouts, **options)

        def finish_jobs(outcomes):
            counts["recorded"].append(len(outcomes))
            return finish(outcomes)

        monkeypatch.setattr(dispatched_jobs.claims, "claim_dispatched_jobs", claim_dispatched_jobs)
        monkeypatch.setattr(record_loop, "finish_jobs", finish_jobs)
        return counts

    @pytest.fixture
    def delays(self, start_worker, monkeypatch):
        """Have each transaction delayed, until the fixture is set or the delay is ended, without a limit."""
        is_over = threading.Event()

        async def wait(delay):
            delay._has_ended.clear()
            while not is_over.is_set() and not delay._has_ended.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

        monkeypatch.setattr(GroupDelay, "wait", wait)
        yield is_over
        is_over.set()

    @pytest.fixture
    def worker(self, delays, transactions, start_worker):
        return start_worker(engine="tests").worker

    def test_jobs_are_claimed_and_recorded_in_groups(self, worker, delays, transactions, monkeypatch):
        jobs = [enqueue(tasks.noop) for _ in range(10)]
        for job in jobs:
            assert worker.run_dispatched_job(job.id, WaitFor.SLOT) == DispatchedJobEnd.ACCEPTED
        assert transactions["claimed"] == []
        delays.set()
        until_succeeded(*jobs)
        assert transactions["claimed"] == [10]

    def test_outcomes_are_recorded_in_groups(self, worker, delays, transactions):
        """The callers have been released."""
        jobs = [enqueue(tasks.noop_sync) for _ in range(5)]
        for job in jobs:
            assert worker.run_dispatched_job(job.id, WaitFor.END) == DispatchedJobEnd.ENDED
        assert transactions["recorded"] == []
        delays.set()
        until_succeeded(*jobs)
        assert transactions["recorded"] == [5]

    @pytest.mark.parametrize(
        ("wait_for", "end"),
        [
            (WaitFor.END, DispatchedJobEnd.ENDED),
            (WaitFor.RECORD, DispatchedJobEnd.RECORDED),
            (WaitFor.RECORD_BEFORE_EXIT, DispatchedJobEnd.RECORDED),
        ],
    )
    @pytest.mark.parametrize("others", [0, 3])
    def test_a_caller_that_waits_ends_the_delay(self, worker, callers, transactions, wait_for, end, others):
        """Of what it waits for. A child process has no other job until then."""
        for _ in range(others):
            worker.run_dispatched_job(enqueue(tasks.noop).id, WaitFor.SLOT)
        assert transactions["claimed"] == []
        job = enqueue(tasks.noop_sync)
        assert callers.submit(worker.run_dispatched_job, job.id, wait_for).result(30) == end
        assert transactions["claimed"] == [1 + others]

    def test_a_caller_that_waits_for_a_slot_ends_the_delay(self, worker, callers):
        worker._dispatched_jobs._free_slots = 2
        for job in [enqueue(tasks.noop) for _ in range(3)]:
            assert (
                callers.submit(worker.run_dispatched_job, job.id, WaitFor.SLOT).result(30)
                == DispatchedJobEnd.ACCEPTED
            )

    def test_a_doubled_id_takes_no_slot(self, worker, delays):
        dispatched = worker._dispatched_jobs
        before = dispatched._free_slots
        job = enqueue(tasks.noop)
        for _ in range(3):
            worker.run_dispatched_job(job.id, WaitFor.SLOT)
        delays.set()
        until_succeeded(job)
        wait_until(lambda: dispatched._free_slots == before, what="the slot to be free")

    def test_a_stop_hands_back_what_is_taken_in(self, delays, transactions, start_worker):
        local = start_worker(engine="tests")
        jobs = [enqueue(tasks.hold, str(number)) for number in range(3)]
        for job in jobs:
            assert local.worker.run_dispatched_job(job.id, WaitFor.SLOT) == DispatchedJobEnd.ACCEPTED
        local.worker.stop(0)
        delays.set()
        local.stop()
        assert set(Job.objects.values_list("state", "executor", "attempt")) == {("queued", "engine", 0)}


def test_withdrawing_a_doubled_id_leaves_the_job_to_the_caller_that_was_told(
    engine_worker, callers, monkeypatch
):
    """Its job is taken in, and waits for the database."""
    monkeypatch.setattr("notifications.contrib.engines.worker.MAX_CLAIM_WAIT_SECONDS", 0.1)
    claim = engine_worker._dispatched_jobs._claim
    monkeypatch.setattr(engine_worker._dispatched_jobs, "_claim", fail_for_ever)
    job = enqueue(tasks.noop)
    assert engine_worker.run_dispatched_job(job.id, WaitFor.SLOT) == DispatchedJobEnd.ACCEPTED
    second = callers.submit(engine_worker.run_dispatched_job, job.id, WaitFor.END)
    assert second.result(30) == DispatchedJobEnd.NOT_CLAIMED
    engine_worker._dispatched_jobs.withdraw(job.id, done_future())
    assert job.id in engine_worker._dispatched_jobs._unclaimed
    monkeypatch.setattr(engine_worker._dispatched_jobs, "_claim", claim)
    until_succeeded(job)


def done_future():
    future = Future()
    future.set_result(DispatchedJobEnd.NOT_CLAIMED)
    return future
