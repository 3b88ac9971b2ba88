"""Waiting for jobs: what they return, how they fail, and what a waiter holds meanwhile."""

import asyncio
import threading
import uuid
from statistics import median

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.exceptions import ObjectDoesNotExist, SynchronousOnlyOperation
from django.db import OperationalError, connections, transaction

from notifications.api import ajoin, join
from notifications.exceptions import JobCancelled, JobDoesNotExist, JobFailed
from notifications.jobs import awaited
from notifications.jobs.transitions import manual, running
from notifications.models import Job
from notifications.realtime import doorbell
from tests.jobs import batch_tasks, joining_tasks, tasks
from tests.jobs.conftest import until_done, until_state
from tests.support.waiting import wait_until

NEVER = 1_000.0


@pytest.fixture(autouse=True)
def nobody_waits():
    """Whatever a test did, nobody is left who waits."""
    yield
    assert not awaited.waits._awaited


@pytest.fixture
def rings_only(monkeypatch):
    """No look but the ones that a ring asks for."""
    wait_until(lambda: awaited.waits._thread is None, what="the thread of another test to end")
    monkeypatch.setattr(awaited, "FIRST_POLL_SECONDS", NEVER)
    monkeypatch.setattr(awaited, "MAX_POLL_SECONDS", NEVER)


class Waiter(threading.Thread):
    """Somebody who waits in a thread: `outcome` is a value or an error."""

    def __init__(self, *args, **kwargs):
        super().__init__()
        self.asked, self.outcome, self.connection = (args, kwargs), None, None
        self.start()
        job = uuid.UUID(str(getattr(args[0], "id", args[0])))
        wait_until(lambda: not self.is_alive() or job in awaited.waits._awaited, what="somebody to wait")

    def run(self):
        args, kwargs = self.asked
        self.connection = connections["default"]
        try:
            self.outcome = join(*args, **kwargs)
        except BaseException as exc:
            self.outcome = exc
        finally:
            connections.close_all()

    def until(self, timeout=20):
        self.join(timeout)
        assert not self.is_alive(), "It waits for ever."
        return self.outcome


def in_thread(work, *args, **kwargs):
    def call():
        try:
            return work(*args, **kwargs)
        finally:
            connections.close_all()

    return asyncio.to_thread(call)


def finish(job, **changes):
    """As an old version of a worker would: no ring, no number."""
    Job.objects.filter(id=job.id).update(**changes)


@pytest.mark.parametrize("way", ["result", "text", "uuid"])
def test_it_returns_what_the_task_returned(worker, way):
    result = tasks.add.enqueue(40, 2)
    job = {"result": result, "text": result.id, "uuid": uuid.UUID(result.id)}[way]
    assert join(job, timeout=20) == 42


def test_one_who_comes_late_is_answered_at_once(worker):
    """The job is done already: no thread, no doorbell, and no time that could be over."""
    result = tasks.echo.enqueue({"n": 1})
    until_done(result)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doorbell, "listen", None)
        assert join(result, timeout=0) == {"n": 1}


def test_a_failed_job_raises_its_problem(worker):
    with pytest.raises(JobFailed, match=r"^Broken for you$") as caught:
        join(tasks.fail_for_owner.enqueue("Broken for you"), timeout=20)
    assert caught.value.error == {"type": "task-failed", "title": "Failed", "detail": "Broken for you"}


def test_the_message_of_an_error_is_not_told(worker):
    with pytest.raises(JobFailed, match=r"^Something went wrong while this was being done.$"):
        join(tasks.fail.enqueue("a secret"), timeout=20)


@pytest.mark.django_db(transaction=True)
def test_a_cancelled_job_raises():
    result = tasks.noop.enqueue()
    finish(result, state="cancelled")
    with pytest.raises(JobCancelled, match=r"The job was cancelled."):
        join(result)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("id", [uuid.uuid4(), str(uuid.uuid4()), "no uuid"], ids=["uuid", "text", "no uuid"])
def test_an_unknown_job(id):
    with pytest.raises(JobDoesNotExist, match=r"There is no job .*not be committed yet, or pruned") as caught:
        join(id)
    assert isinstance(caught.value, ObjectDoesNotExist)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((5,), TypeError, "5 cannot be joined. Pass what enqueue"),
        ((uuid.uuid4(), "5"), TypeError, "timeout must be a number of seconds or None, not str"),
        ((uuid.uuid4(), True), TypeError, "not bool"),
        ((uuid.uuid4(), -1), ValueError, "timeout is -1. It must be a number of seconds from 0"),
        ((uuid.uuid4(), float("nan")), ValueError, "timeout is nan"),
    ],
)
def test_what_cannot_be_waited_for(arguments, error, words):
    with pytest.raises(error, match=words):
        join(*arguments)


@pytest.mark.parametrize("owned", [True, False])
def test_a_ring_ends_the_wait(rings_only, worker, gate, demo, owned):
    """Nobody looks before he is told: of the jobs of a user by their stream, of jobs of nobody by the queue."""
    result = tasks.hold.using(owner=demo if owned else None).enqueue("x")
    until_state(result, "running")
    waiter = Waiter(result)
    wait_until(lambda: awaited.waits._awaited[uuid.UUID(result.id)].known, what="a first look")
    gate.set()
    assert waiter.until() == "x"


@pytest.mark.django_db(transaction=True)
def test_a_lost_ring_makes_it_late_not_wrong(monkeypatch):
    monkeypatch.setattr(awaited, "FIRST_POLL_SECONDS", 0.01)
    result = tasks.noop.enqueue()
    waiter = Waiter(result)
    finish(result, state="succeeded", result="7")
    assert waiter.until() == 7


@pytest.mark.django_db(transaction=True)
def test_rings_for_others_hide_no_lost_one(monkeypatch, demo):
    """They never cease on a busy site; each has the thread look at once, and only at what it is about."""
    monkeypatch.setattr(awaited, "FIRST_POLL_SECONDS", 0.2)
    lost, others = Waiter(tasks.noop.enqueue()), Waiter(tasks.noop.using(owner=demo).enqueue())
    wait_until(lambda: all(each.known for each in awaited.waits._awaited.values()), what="a first look")
    Job.objects.filter(user=None).update(state="succeeded", result="7")

    def is_told():
        awaited.waits._heard({demo.pk}, False)
        return not lost.is_alive()

    wait_until(is_told, what="a look at all")
    assert (lost.outcome, others.outcome) == (7, None)
    Job.objects.filter(user=demo).update(state="succeeded", result="8")
    assert others.until() == 8


@pytest.mark.django_db(transaction=True)
def test_done_while_one_begins_to_wait(rings_only, monkeypatch):
    """Between the look of the waiter and the moment from which rings are heard: the thread looks once more."""
    result = tasks.noop.enqueue()
    wait_for = awaited.waits.wait_for

    def late(*args):
        finish(result, state="succeeded", result="7")
        return wait_for(*args)

    monkeypatch.setattr(awaited.waits, "wait_for", late)
    assert Waiter(result).until() == 7


@pytest.mark.django_db(transaction=True)
def test_a_ring_during_the_first_look(rings_only, monkeypatch):
    """Whose job it is, is not known yet; the ring counts all the same."""
    result = tasks.noop.enqueue()
    ends, heard = awaited.waits._ends, []

    def slow(ids):
        found = ends(ids)
        if not heard:
            awaited.waits._awaited[uuid.UUID(result.id)].known = False
            finish(result, state="succeeded", result="7")
            heard.append(awaited.waits._heard(frozenset({"somebody"}), False))
        return found

    monkeypatch.setattr(awaited.waits, "_ends", slow)
    assert Waiter(result).until() == 7


@pytest.mark.django_db(transaction=True)
def test_a_job_that_disappears(rings_only):
    result = tasks.noop.enqueue()
    waiter = Waiter(result)
    Job.objects.all().delete()
    doorbell.doorbell.ring([], queue=True)
    assert isinstance(waiter.until(), JobDoesNotExist)


@pytest.mark.django_db(transaction=True)
def test_the_database_is_away_for_a_while(monkeypatch, caplog):
    """Who waits goes on waiting, and it is in the log."""
    monkeypatch.setattr(awaited, "FIRST_POLL_SECONDS", 0.01)
    result = tasks.noop.enqueue()
    ends, failed = awaited.waits._ends, []

    def away(ids):
        if len(failed) < 3:
            failed.append(1)
            raise OperationalError("away")
        return ends(ids)

    monkeypatch.setattr(awaited.waits, "_ends", away)
    waiter = Waiter(result)
    finish(result, state="succeeded", result="7")
    assert waiter.until() == 7
    assert caplog.text.count("It cannot be seen now whether 1 awaited jobs are done: away") == 3


@pytest.mark.django_db(transaction=True)
def test_an_error_of_ours_reaches_who_waits(monkeypatch):
    monkeypatch.setattr(awaited.waits, "_ends", lambda ids: 1 / 0)
    assert isinstance(Waiter(tasks.noop.enqueue()).until(), ZeroDivisionError)


def test_many_wait_for_one_and_one_for_many(worker, gate):
    """Each gets a value of his own."""
    result = tasks.hold.enqueue(["x"])
    waiters = [Waiter(result) for _ in range(5)]
    gate.set()
    values = [waiter.until() for waiter in waiters]
    assert values == [["x"]] * 5
    assert len({id(value) for value in values}) == 5


def test_time_is_over_and_the_job_goes_on(worker, gate):
    result = tasks.hold.enqueue("x")
    with pytest.raises(TimeoutError, match=rf"^Job {result.id} was not done within 0.1 s. It goes on.$"):
        join(result, timeout=0.1)
    gate.set()
    assert join(result, timeout=20) == "x"


async def test_ajoin_is_the_same(event_loop_database, start_worker, gate):
    """The value, the errors, and the time that is over."""
    await in_thread(start_worker)
    assert await ajoin(await tasks.add.aenqueue(40, 2), timeout=20) == 42
    with pytest.raises(JobFailed):
        await ajoin(await tasks.fail.aenqueue(), timeout=20)
    with pytest.raises(JobDoesNotExist):
        await ajoin(uuid.uuid4())
    held = await tasks.hold.aenqueue("x")
    with pytest.raises(TimeoutError, match=r"was not done within 0.1 s. It goes on."):
        await ajoin(held, timeout=0.1)
    gate.set()
    assert await ajoin(held, timeout=20) == "x"


async def test_a_waiter_that_is_cancelled_leaves_the_job_alone(event_loop_database, start_worker, gate):
    await in_thread(start_worker)
    held = await tasks.hold.aenqueue("x")
    waiter = asyncio.create_task(ajoin(held))
    await in_thread(wait_until, lambda: awaited.waits._awaited, what="somebody to wait")
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert not awaited.waits._awaited
    gate.set()
    assert await ajoin(held, timeout=20) == "x"
    assert tasks.seen == []


async def test_a_timeout_of_the_callers_is_his_own(event_loop_database, start_worker, gate):
    """asyncio.timeout() around it ends as such, not in our words."""
    await in_thread(start_worker)
    held = await tasks.hold.aenqueue("x")
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.1):
            await ajoin(held, timeout=30)
    assert "It goes on" not in str(caught.value)
    gate.set()


def test_nobody_holds_a_connection_while_he_waits(worker, gate):
    """It is closed in the thread that waits, and there is one thread that looks for all."""
    held = tasks.hold.enqueue("x")
    waiters = [Waiter(held) for _ in range(5)]
    wait_until(lambda: all(waiter.connection.connection is None for waiter in waiters), what="no connection")
    assert [thread.name for thread in threading.enumerate()].count("notifications-join") == 1
    gate.set()
    assert {waiter.until() for waiter in waiters} == {"x"}


async def test_no_request_holds_a_connection_while_it_waits(event_loop_database, start_worker, gate):
    """An async view has the thread of its request for queries: the connection there is closed."""
    await in_thread(start_worker)
    held = await tasks.hold.aenqueue("x")
    seen = []

    def query():
        Job.objects.exists()
        seen.append(connections["default"])

    async with ThreadSensitiveContext():
        await sync_to_async(query)()
        assert seen[0].connection is not None
        waiter = asyncio.create_task(ajoin(held))
        await in_thread(wait_until, lambda: awaited.waits._awaited, what="somebody to wait")
        assert seen[0].connection is None
        gate.set()
        assert await waiter == "x"


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_it_would_wait_for_ever():
    with transaction.atomic():
        result = tasks.noop.enqueue()
        with pytest.raises(RuntimeError, match=r"no worker sees it before the commit. Wait for it after"):
            join(result)
    finish(result, state="succeeded", result="7")
    with transaction.atomic():
        assert join(result) == 7


async def test_on_an_event_loop():
    with pytest.raises(SynchronousOnlyOperation, match=r"would block the event loop. Use await ajoin"):
        join(uuid.uuid4())


def test_one_hundred_parents_and_their_children_on_one_hundred_slots(start_worker, demo):
    """A job that waits gives up its slot; its child has the same owner."""
    start_worker(concurrency=100)
    with transaction.atomic():
        parents = [joining_tasks.parent.using(owner=demo).enqueue(number) for number in range(100)]
    assert [join(parent, timeout=60) for parent in parents] == list(range(100))
    assert Job.objects.filter(user=demo, state="succeeded").count() == 200


@pytest.mark.parametrize(
    "task", ["parent_sync", "parent_sync_of_sync", "parents_together", "parent_async_to_sync"]
)
def test_sync_parents_give_up_their_threads(start_worker, monkeypatch, task):
    """As many as there are slots and threads wait for jobs that need them."""
    monkeypatch.setattr(joining_tasks, "together", threading.Barrier(4))
    worker = start_worker(concurrency=4)
    with transaction.atomic():
        parents = [getattr(joining_tasks, task).enqueue(number) for number in range(8)]
    more = 0 if task == "parent_sync" else 1
    assert [join(parent, timeout=60) for parent in parents] == [number + more for number in range(8)]
    # Those that are too many end; the next calls find at most as many threads as there may be.
    names = {join(tasks.thread_name_sync.enqueue(), timeout=20) for _ in range(20)}
    assert len(names) <= 4
    wait_until(
        lambda: (
            len(worker.worker._job_runner.sync_threads._threads) <= 4
            and not worker.worker._job_runner.sync_threads._lent
        ),
        what="fewer",
    )


def test_generations_on_one_slot(start_worker):
    start_worker(concurrency=1)
    assert join(joining_tasks.generations.enqueue(5), timeout=60) == 5


def test_one_parent_of_many(start_worker):
    start_worker(concurrency=2)
    assert join(joining_tasks.parent_of_many.enqueue(50), timeout=60) == sum(range(50))


def test_children_go_before_parents_that_did_not_begin(start_worker):
    """Parents are older and would all begin first; each would be in memory, a sync one with a thread."""
    joining_tasks.most_alive.clear()
    with transaction.atomic():
        parents = [joining_tasks.counted_parent.enqueue("default") for _ in range(20)]
    start_worker(concurrency=2)
    until_done(*parents, timeout=60)
    # The median: on a busy machine a parent may hear late that its child is done, and another one begins meanwhile.
    assert median(joining_tasks.most_alive) <= 4


def test_only_so_many_wait_for_jobs_of_others(start_worker, monkeypatch):
    """Their children run elsewhere, when somebody is there: until then no more parents begin than a few a slot."""
    monkeypatch.setattr("notifications.jobs.worker.claim_loop.OVER_LIMIT_CLAIM_INTERVAL_SECONDS", NEVER)
    joining_tasks.most_alive.clear()
    with transaction.atomic():
        parents = [joining_tasks.counted_parent.enqueue("elsewhere") for _ in range(15)]
    claim_loop, looks = start_worker(concurrency=2, queues=["default"]).worker._claim_loop, []
    limit_of = claim_loop._limit_of_other_jobs
    monkeypatch.setattr(
        claim_loop, "_limit_of_other_jobs", lambda limit: looks.append(limit) or limit_of(limit)
    )
    wait_until(lambda: Job.objects.filter(queue_name="elsewhere").count() >= 8, what="parents to wait")
    looks.clear()

    def looked():
        doorbell.doorbell.ring([], queue=True)
        return len(looks) >= 5

    wait_until(looked, what="more looks for something to do")
    start_worker(queues=["elsewhere"])
    until_done(*parents, timeout=60)
    assert 8 <= max(joining_tasks.most_alive) <= 10


def test_workers_of_two_queues_do_not_wait_for_each_other_for_ever(start_worker, monkeypatch):
    """Each has as many parents as it may, and all of them wait for jobs that only the other one would run."""
    monkeypatch.setattr("notifications.jobs.worker.capacity.MAX_WAITING_PER_SLOT", 2)
    monkeypatch.setattr("notifications.jobs.worker.claim_loop.OVER_LIMIT_CLAIM_INTERVAL_SECONDS", 0.05)
    with transaction.atomic():
        parents = [
            joining_tasks.counted_parent.using(queue_name=mine).enqueue(other)
            for _ in range(3)
            for mine, other in (("one", "two"), ("two", "one"))
        ]
    for queue in ("one", "two"):
        start_worker(concurrency=1, queues=[queue])
    until_done(*parents, timeout=60)


def test_the_jobs_of_a_batch_in_a_batch_go_first_too(start_worker, monkeypatch):
    """As many parents as there may be wait for batches whose jobs are inside other ones."""
    monkeypatch.setattr("notifications.jobs.worker.claim_loop.OVER_LIMIT_CLAIM_INTERVAL_SECONDS", NEVER)
    with transaction.atomic():
        parents = [batch_tasks.nested_batch_in_a_job.enqueue() for _ in range(6)]
    start_worker(concurrency=1)
    assert [join(parent, timeout=60)["succeeded"] for parent in parents] == [1] * 6


def test_a_sync_parent_that_is_cancelled_waits_no_longer(worker, gate):
    """To wait is a place where a sync task lets itself be ended. The child is left alone."""
    parent = joining_tasks.parent_until_cancelled.enqueue()
    wait_until(lambda: tasks.held == ["child"], what="the child to run")
    manual.cancel([uuid.UUID(parent.id)])
    with pytest.raises(JobCancelled):
        join(parent, timeout=20)
    assert tasks.seen == ["parent"]
    assert not gate.is_set()


def test_a_slot_is_given_up_once_only(start_worker, gate):
    """What does not wait keeps its place: of five that hold, two run."""
    start_worker(concurrency=2)
    held = [tasks.hold.enqueue(number) for number in range(5)]
    parent = joining_tasks.parent.enqueue("x")
    wait_until(lambda: len(tasks.held) == 2, what="two to run")
    assert Job.objects.filter(state="running").count() == 2
    gate.set()
    assert join(parent, timeout=20) == "x"
    until_done(*held)


def test_an_async_task_must_not_block_a_thread_of_others(worker):
    result = joining_tasks.parent_on_database_thread.enqueue()
    with pytest.raises(JobFailed):
        join(result, timeout=20)
    result.refresh()
    assert "that this async task shares with others. Use await ajoin()" in result.errors[0].traceback


def test_a_job_cannot_wait_for_itself(worker):
    result = joining_tasks.join_itself.enqueue()
    with pytest.raises(JobFailed):
        join(result, timeout=20)
    result.refresh()
    assert "A job cannot wait for its own end." in result.errors[0].traceback


def test_a_childs_failure_is_the_parents_own(worker):
    """Unless it is caught. The owner reads that something went wrong, staff what."""
    result = joining_tasks.await_failing.enqueue()
    with pytest.raises(JobFailed):
        join(result, timeout=20)
    result.refresh()
    assert result.errors[0].exception_class_path == "notifications.exceptions.JobFailed"


def test_a_sync_parent_that_is_out_of_time_gets_its_thread_back(worker, gate):
    """Nobody hears any more what its child returns; the thread has better to do than to wait for it."""
    result = joining_tasks.parent_out_of_time.enqueue()
    with pytest.raises(JobFailed):
        join(result, timeout=20)
    wait_until(lambda: tasks.seen, what="the thread to come back")
    assert tasks.seen == ["JobCancelled"]
    assert not gate.is_set()
    wait_until(
        lambda: not worker.worker._job_runner.sync_threads._written_off, what="no thread to be written off"
    )


def test_a_sync_parent_that_begins_to_wait_when_it_is_over(start_worker, gate):
    """It would wait for ever."""
    start_worker(queues=["default"])
    with pytest.raises(JobFailed):
        join(joining_tasks.parent_too_late.enqueue(), timeout=20)
    gate.set()
    wait_until(lambda: tasks.seen == ["JobCancelled"], what="the thread to come back")


@pytest.mark.django_db(transaction=True)
def test_the_thread_that_looks_ends_with_the_last_who_waits(monkeypatch):
    """And is there again for the next one; while it is not, other processes are not heard."""
    for _ in range(2):
        with pytest.raises(TimeoutError):
            join(tasks.noop.enqueue(), timeout=0.05)
        wait_until(lambda: awaited.waits._thread is None, what="the thread to end")
    assert not running.read_claims(uuid.uuid4())
