"""The worker of a process of an engine: what it claims for the slots of messages, and when it gives them back."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction

from notifications.contrib.engines import wakeups, worker
from notifications.contrib.engines.worker import EngineWorker, MessageSlot
from notifications.models import Job
from tests.data.test_plans_of_claims import insert_queued_jobs
from tests.jobs import tasks
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sent(with_engine, monkeypatch):
    """The messages that are sent, in place of the engine: (backend, queue)."""
    found = []
    monkeypatch.setattr(wakeups, "send", lambda counts: found.extend(counts.elements()))
    return found


@pytest.fixture
def started(sent, start_worker):
    """A worker of two slots."""
    return start_worker(worker_class=EngineWorker, engine="recording", concurrency=2).worker


def give(started, queue="default", backend="default"):
    """Give the worker a slot, and return it."""
    slot = MessageSlot((backend, queue))
    started.state.call_in_loop(lambda: started._slots.add(slot))
    return slot


def enqueue(task=tasks.noop_sync, count=1, **options):
    with transaction.atomic():
        return [task.using(**options).enqueue().id for _ in range(count)]


def states(ids):
    rows = Job.objects.in_bulk(ids)
    return [rows[Job._meta.pk.to_python(id)].state for id in ids]


def until(ids, state):
    wait_until(lambda: set(states(ids)) == {state}, what=f"{len(ids)} jobs to be {state}")


def test_slot_runs_one_sync_job_after_another(started, gate):
    """All that wait, and the engine has the slot back when nothing is left."""
    ids = enqueue(tasks.hold_sync, 3)
    slot = give(started)
    wait_until(lambda: states(ids) == ["running", "queued", "queued"], what="the first job to run")
    assert not slot.end.done()
    gate.set()
    slot.end.result(60)
    until(ids, "succeeded")
    assert slot.jobs == 3


def test_slot_without_a_job_is_given_back(started):
    give(started).end.result(60)


def test_slot_that_comes_during_a_claim_is_for_the_next_one(started):
    """The claim may have read the queue before the job of the message was there."""
    claim_from, late = started.claims.claim_from, []

    async def claim_while_a_message_comes(*arguments):
        jobs = await claim_from(*arguments)
        if not late:
            late.extend(await sync_to_async(enqueue)())
            started._slots.add(MessageSlot(("default", "default")))
        return jobs

    started.claims.claim_from = claim_while_a_message_comes
    give(started).end.result(60)
    until(late, "succeeded")


def test_jobs_run_in_the_slots_that_are_there(started):
    """A slot that is freed while another claim is under way stays too, and no claim is for nothing."""
    claim_from, claims = started.claims.claim_from, []

    async def claim_until_others_have_ended(source, free, *arguments):
        claims.append(free[Job.Executor.SYNC])
        jobs = await claim_from(source, free, *arguments)
        while started.state.executions:  # noqa: ASYNC110  # There is no event for it.
            await asyncio.sleep(0.001)
        return jobs

    started.claims.claim_from = claim_until_others_have_ended
    with transaction.atomic():
        ids = [tasks.short_sync.enqueue(seconds).id for seconds in (0.05, 0.001) * 10]
    slots = [give(started) for _ in range(2)]
    for slot in slots:
        slot.end.result(60)
    until(ids, "succeeded")
    assert sum(slot.jobs for slot in slots) == len(ids)
    assert min(slot.jobs for slot in slots) > 5, "one of them was given back while jobs were queued"
    assert len(claims) <= len(ids) + len(slots)


def test_slot_is_given_back_after_many_jobs(started, sent, monkeypatch):
    """Another message follows, so that the engine may stop the process in between."""
    monkeypatch.setattr(worker, "MAX_JOBS_PER_SLOT", 2)
    ids = enqueue(count=3)
    sent.clear()
    give(started).end.result(60)
    assert sent == [("default", "default")]
    assert states(ids)[2] == "queued"
    give(started).end.result(60)
    until(ids, "succeeded")


def test_slot_is_given_back_after_its_time(started, sent, monkeypatch):
    monkeypatch.setattr(worker, "MAX_SLOT_SECONDS", 0.0)
    enqueue(count=2)
    sent.clear()
    give(started).end.result(60)
    assert sent == [("default", "default")]
    assert Job.objects.filter(state="queued").count() == 1


def test_async_jobs_run_beside_the_slots(started, settings, gate):
    """Up to CONCURRENCY, and what is left of them goes on when the slot ends. The others follow without a message."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "CONCURRENCY": 3}
    ids = enqueue(tasks.hold, 5)
    sync = enqueue()
    give(started).end.result(60)
    until(sync, "succeeded")
    wait_until(lambda: states(ids).count("running") == 3, what="three jobs to run")
    gate.set()
    until(ids, "succeeded")


def test_sync_jobs_run_while_async_ones_take_all_places(started, settings, gate):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "CONCURRENCY": 1}
    held = enqueue(tasks.hold, 2)
    give(started).end.result(60)
    sync = enqueue()
    give(started).end.result(60)
    until(sync, "succeeded")
    assert states(held).count("running") == 1


def test_jobs_of_other_queues_and_backends_are_left(started, settings):
    """Also of another engine with a queue of the same name, and of the built-in worker."""
    settings.TASKS = {**settings.TASKS, "second": settings.TASKS["default"]}
    mine = enqueue()
    others = [*enqueue(queue_name="reports"), *enqueue(backend="second"), *enqueue(backend="builtin")]
    give(started).end.result(60)
    until(mine, "succeeded")
    assert set(states(others)) == {"queued"}
    give(started, backend="second").end.result(60)
    until(others[1:2], "succeeded")
    assert states(others) == ["queued", "succeeded", "queued"]


def test_queue_beside_a_backlog_of_others(started):
    """One job begins at once, beside 10,000 of a queue, and of a backend, that this process may not take."""
    insert_queued_jobs(5_000, executor="sync", priority=5)
    insert_queued_jobs(5_000, executor="sync", priority=5, backend="second", queue_name="reports")
    mine = enqueue(queue_name="reports")
    give(started, "reports").end.result(60)
    until(mine, "succeeded")
    assert Job.objects.filter(state="queued").count() >= 10_000


def test_backlog_from_before_the_engine(started):
    """Its rows have the executors of the built-in worker."""
    ids = enqueue(count=2)
    Job.objects.update(executor="sync")
    give(started).end.result(60)
    until(ids, "succeeded")


def test_next_job_of_a_key(started, sent, gate):
    """It may run in any process when the one before has ended."""
    first = enqueue(tasks.hold, concurrency_key="one")
    give(started).end.result(60)
    until(first, "running")
    enqueue(tasks.hold, concurrency_key="one")
    give(started).end.result(60)
    sent.clear()
    gate.set()
    wait_until(lambda: sent, what="a message")
    assert sent == [("default", "default")]


def test_quarantined_jobs_run_one_at_a_time(started, gate):
    """In a slot, beside other jobs."""
    ids = enqueue(tasks.hold_sync, 3)
    Job.objects.update(executor="quarantined")
    slot = give(started)
    wait_until(lambda: states(ids).count("running") == 1, what="one job to run")
    other = enqueue(queue_name="reports")
    give(started, "reports").end.result(60)
    until(other, "succeeded")
    assert states(ids).count("running") == 1 and not slot.end.done()
    gate.set()
    slot.end.result(60)
    until(ids, "succeeded")


def test_senders_take_no_slot(started, gate):
    """The engine has its slot back while the servers of others do not answer."""
    ids = enqueue(tasks.hold, 3, queue_name="deliveries")
    Job.objects.update(executor="sender")
    give(started, "deliveries").end.result(60)
    until(ids, "running")
    sync = enqueue()
    give(started).end.result(60)
    until(sync, "succeeded")


def test_stop_gives_slots_back(start_worker, sent, gate):
    """What runs after the grace period is queued again, without an attempt."""
    local = start_worker(worker_class=EngineWorker, engine="recording", concurrency=2)
    ids = enqueue(tasks.hold_sync, 2)
    slot = give(local.worker)
    wait_until(lambda: states(ids).count("running") == 1, what="one job to run")
    local.stop()
    slot.end.result(60)
    until(ids, "queued")
    assert set(Job.objects.values_list("attempt", flat=True)) == {0}
    assert not local.worker.run_slot(MessageSlot(("default", "default")))
