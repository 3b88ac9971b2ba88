"""Jobs are claimed for free slots and threads."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from notifications.models import Job, Worker
from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.support.statements import preceded
from tests.support.waiting import wait_until

#: A statement by which jobs are found that may be claimed.
CLAIM = "(?s)FROM notifications_job.*queued"


def test_the_deadline_is_that_of_the_task(worker, gate):
    """It is a minute plus the task's timeout after the claim, also for the first job of the task in a worker."""
    for _ in range(2):
        (job,) = until_done(tasks.slow.enqueue())
        assert abs((job.deadline - job.started_at).total_seconds() - 60.2) < 30


@pytest.fixture
def no_polling(set_bounds):
    """Workers claim when they are woken, or a slot is free."""
    set_bounds(polls=600)


def test_a_slot_that_is_freed_during_a_claim(start_worker, user, gate, no_polling, monkeypatch):
    """The claim saw no free slot. The queue is read again at once, not after the poll interval."""
    if connection.vendor != "postgresql":
        pytest.skip("On SQLite one thread claims and records, so no slot is freed during a claim.")
    worker = start_worker(concurrency=1).worker
    holding = tasks.hold.using(owner=user).enqueue()
    wait_until(lambda: tasks.held, what="the slot to be taken")
    claim_loop = worker._claim_loop
    claim, claimed, may_continue = claim_loop._claim, threading.Event(), threading.Event()

    def claim_slowly():
        result = claim()
        claimed.set()
        assert may_continue.wait(60)
        return result

    wait_until(lambda: claim_loop._exhausted_executors, what="the next claim")
    # As if that claim had found a slot and no job, and a job that waits for another one had taken the slot since.
    claim_loop._exhausted_executors = set()
    monkeypatch.setattr(claim_loop, "_claim", claim_slowly)
    waiting = tasks.noop.using(owner=user).enqueue()
    assert claimed.wait(60)
    gate.set()
    until_done(holding)
    wait_until(lambda: not worker.state.executions, what="the slot to be free")
    may_continue.set()
    until_done(waiting)


def test_a_worker_of_one_queue(start_worker):
    start_worker(queues=["reports"])
    other, own = tasks.noop.enqueue(), tasks.noop.using(queue_name="reports").enqueue()
    until_done(own)
    assert Job.objects.get(id=other.id).state == "queued"
    assert Worker.objects.get().queues == "reports"


def test_a_scheduled_job_runs_when_it_is_due(worker):
    result = tasks.noop.using(run_after=timezone.now() + timedelta(seconds=0.3)).enqueue()
    (job,) = until_done(result)
    assert job.started_at >= job.run_after


def test_two_workers_share_the_queue(start_worker, gate):
    """Each of 200 jobs is claimed once, and both workers claim some: the first ones take all slots of both."""
    workers = [start_worker(concurrency=20) for _ in range(2)]
    with transaction.atomic():
        results = [tasks.hold.enqueue(number, timeout=100) for number in range(40)]
        results += [tasks.noop.enqueue() for _ in range(160)]
    wait_until(lambda: len(tasks.held) == 40, what="all slots to be taken")
    gate.set()
    jobs = until_done(*results)
    assert {job.fence for job in jobs} == {1} and len(tasks.held) == 40
    assert {job.worker for job in jobs} == {worker.id for worker in workers}


def test_a_claim_that_the_database_lost(start_worker, user, gate):
    """After a crash of PostgreSQL the job is claimed again as it was. The task goes on, and does not begin again."""
    worker = start_worker().worker
    holding = tasks.hold.using(owner=user).enqueue()
    wait_until(lambda: tasks.held, what="the job to begin")
    lost = {"state": "queued", "fence": 0, "attempt": 0, "version": 1, "worker": None, "deadline": None}
    Job.objects.filter(id=holding.id).update(**lost)
    worker.state.call_in_loop(worker._claim_loop.wake)
    wait_until(lambda: Job.objects.get(id=holding.id).state == "running", what="the next claim")
    gate.set()
    (job,) = until_done(holding)
    assert (job.state, job.attempt, len(tasks.held)) == ("succeeded", 1, 1)


def test_an_idle_worker_starts_a_job_before_it_claims_senders(start_worker, user, gate, no_polling):
    """It claims senders right after that, not after the poll interval."""
    is_reached, may_continue = threading.Event(), threading.Event()
    claim_loop = start_worker().worker._claim_loop
    wait_until(lambda: claim_loop.next_sender_claim, what="the first claim")
    wait_until(
        lambda: time.monotonic() > claim_loop.next_sender_claim, what="the next claim of senders to be due"
    )

    def wait():
        is_reached.set()
        assert may_continue.wait(60)

    with preceded(f"{CLAIM}.*sender", wait):
        holding = tasks.hold.using(owner=user).enqueue()
        wait_until(lambda: tasks.held, what="the job to begin")
        assert is_reached.wait(60)
        may_continue.set()
        gate.set()
        until_done(holding)


def test_a_worker_that_each_claim_finds_idle_claims_senders(start_worker, user, monkeypatch):
    """With one slot and a backlog each claim finds a job and no running one."""
    monkeypatch.setattr("notifications.worker.claim_loop.SENDER_CLAIM_INTERVAL_SECONDS", 0)
    with transaction.atomic():
        results = [tasks.noop.using(owner=user).enqueue() for _ in range(50)]
        sender = tasks.noop.enqueue()
        Job.objects.filter(id=sender.id).update(executor="sender")
    start_worker(concurrency=1)
    [sent, *jobs] = until_done(sender, *results)
    assert sent.started_at < jobs[25].started_at
