"""join() and ajoin(): results and errors, timeouts, and the connections and threads of waiting calls."""

import asyncio
import threading
import uuid

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.exceptions import ObjectDoesNotExist, SynchronousOnlyOperation
from django.db import OperationalError, connections, transaction

from notifications.api import ajoin, join
from notifications.exceptions import JobCancelled, JobDoesNotExist, JobFailed
from notifications.jobs import job_ends
from notifications.models import Job
from notifications.streams import ring
from tests.jobs import tasks
from tests.jobs.conftest import until_done, until_state
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly_on_old_django

LONG_INTERVAL_SECONDS = 1_000.0


@pytest.fixture(autouse=True)
def check_that_no_call_waits():
    """Check that no call waits any more at the end of a test."""
    yield
    assert not job_ends.end_reader._awaited


@pytest.fixture
def set_polling(set_bounds):
    """set_polling(seconds) sets the time until jobs are read first without a ring."""
    return lambda seconds: set_bounds(polls=seconds)


@pytest.fixture
def rings_only(set_polling, set_bounds):
    """Have the thread read jobs only when a ring arrives, without polling."""
    wait_until(lambda: not job_ends.end_reader._thread.is_running, what="the thread of another test to end")
    set_polling(LONG_INTERVAL_SECONDS)
    set_bounds(polls=LONG_INTERVAL_SECONDS)


class Waiter(threading.Thread):
    """A thread that waits for a job. `outcome` is a value or an exception."""

    def __init__(self, *args, **kwargs):
        super().__init__()
        self.arguments, self.outcome, self.connection = (args, kwargs), None, None
        self.start()
        job = uuid.UUID(str(getattr(args[0], "id", args[0])))
        wait_until(lambda: not self.is_alive() or job in job_ends.end_reader._awaited, what="a call to wait")

    def run(self):
        args, kwargs = self.arguments
        self.connection = connections["default"]
        try:
            self.outcome = join(*args, **kwargs)
        except BaseException as exc:
            self.outcome = exc
        finally:
            connections.close_all()

    def until(self, timeout=20):
        self.join(timeout)
        assert not self.is_alive(), "The call still waits."
        return self.outcome


def in_thread(work, *args, **kwargs):
    def call():
        try:
            return work(*args, **kwargs)
        finally:
            connections.close_all()

    return asyncio.to_thread(call)


def finish(job, **changes):
    """Change the row without a ring or a number."""
    Job.objects.filter(id=job.id).update(**changes)


@pytest.mark.parametrize("kind", ["result", "text", "uuid"])
def test_join_returns_what_the_task_returned(worker, kind):
    result = tasks.add.enqueue(40, 2)
    job = {"result": result, "text": result.id, "uuid": uuid.UUID(result.id)}[kind]
    assert join(job, timeout=20) == 42


def test_joining_a_finished_job_returns_immediately(worker):
    """The thread, which listens to rings, is not used, so that a timeout of 0 suffices."""
    result = tasks.echo.enqueue({"n": 1})
    until_done(result)
    assert join(result, timeout=0) == {"n": 1}
    assert not job_ends.end_reader._thread.is_running


def test_a_failed_job_raises_its_error(worker):
    with pytest.raises(JobFailed, match=r"^Broken for you$") as caught:
        join(tasks.fail_for_owner.enqueue("Broken for you"), timeout=20)
    assert caught.value.error == {"type": "task-failed", "title": "Failed", "detail": "Broken for you"}


def test_the_message_of_an_exception_is_not_shown(worker):
    result = tasks.fail.enqueue("a secret")
    text = f"^The job stopped because of an error. Try again, or give support this ID: {result.id}$"
    with pytest.raises(JobFailed, match=text):
        join(result, timeout=20)


@pytest.mark.django_db(transaction=True)
def test_a_cancelled_job_raises():
    result = tasks.noop.enqueue()
    finish(result, state="cancelled")
    with pytest.raises(JobCancelled, match=r"The job was cancelled."):
        join(result)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("id", [uuid.uuid4(), str(uuid.uuid4()), "no uuid"], ids=["uuid", "text", "no uuid"])
def test_an_unknown_job(id):
    with pytest.raises(
        JobDoesNotExist, match=r"There is no job .*(not be committed yet, or pruned|which is a UUID)"
    ) as caught:
        join(id)
    assert isinstance(caught.value, ObjectDoesNotExist)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((5,), TypeError, "5 cannot be joined. Pass what enqueue"),
        ((uuid.uuid4(), "5"), TypeError, "timeout must be a number of seconds or None, not str"),
        ((uuid.uuid4(), True), TypeError, "not bool"),
        ((uuid.uuid4(), -1), ValueError, "timeout is -1. It must be a number of seconds of 0 or more"),
        ((uuid.uuid4(), float("nan")), ValueError, "timeout is nan"),
    ],
)
def test_invalid_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        join(*arguments)


@pytest.mark.parametrize("owned", [True, False])
def test_a_ring_ends_the_wait(rings_only, worker, gate, user, owned):
    """A ring for the owner, and for the queue if the job has no owner."""
    result = tasks.hold.using(owner=user if owned else None).enqueue("x")
    until_state(result, "running")
    waiter = Waiter(result)
    wait_until(lambda: job_ends.end_reader._awaited[uuid.UUID(result.id)].has_user, what="the first read")
    gate.set()
    assert waiter.until() == "x"


@pytest.mark.django_db(transaction=True)
def test_polling_makes_up_for_a_lost_ring(set_polling):
    set_polling(0.01)
    result = tasks.noop.enqueue()
    waiter = Waiter(result)
    finish(result, state="succeeded", result="7")
    assert waiter.until() == 7


@pytest.mark.django_db(transaction=True)
def test_rings_for_other_users_do_not_delay_polling(set_polling, user):
    """On a busy site they arrive all the time. For each, the thread reads the jobs of that user only."""
    set_polling(0.2)
    without_ring, other = Waiter(tasks.noop.enqueue()), Waiter(tasks.noop.using(owner=user).enqueue())
    wait_until(
        lambda: all(each.has_user for each in job_ends.end_reader._awaited.values()), what="the first read"
    )
    Job.objects.filter(user=None).update(state="succeeded", result="7")

    def ring_until_done():
        job_ends.end_reader._on_ring({user.pk}, False)
        return not without_ring.is_alive()

    wait_until(ring_until_done, what="all jobs to be read")
    assert (without_ring.outcome, other.outcome) == (7, None)
    Job.objects.filter(user=user).update(state="succeeded", result="8")
    assert other.until() == 8


@pytest.mark.django_db(transaction=True)
def test_a_job_that_ends_before_the_wait_is_registered(rings_only, monkeypatch):
    """It ends between the first read and the subscription to rings, so the thread reads the job once more."""
    result = tasks.noop.enqueue()
    wait_for = job_ends.end_reader.wait_for

    def finish_first(*args):
        finish(result, state="succeeded", result="7")
        return wait_for(*args)

    monkeypatch.setattr(job_ends.end_reader, "wait_for", finish_first)
    assert Waiter(result).until() == 7


@pytest.mark.django_db(transaction=True)
def test_a_ring_during_the_first_read(rings_only, monkeypatch):
    """The owner of the job is not known yet, so that after a ring for any user the job is read again."""
    result = tasks.noop.enqueue()
    read_ends, rung = job_ends.end_reader._read_ends, []

    def finish_during_read(ids):
        found = read_ends(ids)
        if not rung:
            job_ends.end_reader._awaited[uuid.UUID(result.id)].has_user = False
            finish(result, state="succeeded", result="7")
            rung.append(job_ends.end_reader._on_ring(frozenset({"another user"}), False))
        return found

    monkeypatch.setattr(job_ends.end_reader, "_read_ends", finish_during_read)
    assert Waiter(result).until() == 7


@pytest.mark.django_db(transaction=True)
def test_a_job_that_disappears(rings_only):
    result = tasks.noop.enqueue()
    waiter = Waiter(result)
    Job.objects.all().delete()
    ring([], queue=True)
    assert isinstance(waiter.until(), JobDoesNotExist)


@pytest.mark.django_db(transaction=True)
def test_a_database_outage(set_polling, monkeypatch, caplog):
    """The call keeps waiting, and each failed read is logged."""
    set_polling(0.01)
    result = tasks.noop.enqueue()
    read_ends, failed = job_ends.end_reader._read_ends, []

    def fail_three_times(ids):
        if len(failed) < 3:
            failed.append(1)
            raise OperationalError("away")
        return read_ends(ids)

    monkeypatch.setattr(job_ends.end_reader, "_read_ends", fail_three_times)
    waiter = Waiter(result)
    finish(result, state="succeeded", result="7")
    assert waiter.until() == 7
    assert "A thread failed, and goes on: notifications-join: away" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_an_unexpected_exception_is_raised_in_the_waiting_call(monkeypatch):
    monkeypatch.setattr(job_ends.end_reader, "_read_ends", lambda ids: 1 / 0)
    assert isinstance(Waiter(tasks.noop.enqueue()).until(), ZeroDivisionError)


def test_several_calls_wait_for_one_job(worker, gate):
    """Each call returns a copy of its own."""
    result = tasks.hold.enqueue(["x"])
    waiters = [Waiter(result) for _ in range(5)]
    gate.set()
    values = [waiter.until() for waiter in waiters]
    assert values == [["x"]] * 5
    assert len({id(value) for value in values}) == 5


def test_the_job_continues_after_a_timeout(worker, gate):
    result = tasks.hold.enqueue("x")
    with pytest.raises(TimeoutError, match=rf"^Job {result.id} was not done within 0.1 s. It continues.$"):
        join(result, timeout=0.1)
    gate.set()
    assert join(result, timeout=20) == "x"


async def test_ajoin(event_loop_database, start_worker, gate):
    """Results, errors and timeouts are those of join()."""
    await in_thread(start_worker)
    assert await ajoin(await tasks.add.aenqueue(40, 2), timeout=20) == 42
    with pytest.raises(JobFailed):
        await ajoin(await tasks.fail.aenqueue(), timeout=20)
    with pytest.raises(JobDoesNotExist):
        await ajoin(uuid.uuid4())
    result = await tasks.hold.aenqueue("x")
    with pytest.raises(TimeoutError, match=r"was not done within 0.1 s. It continues."):
        await ajoin(result, timeout=0.1)
    gate.set()
    assert await ajoin(result, timeout=20) == "x"


async def test_cancelling_ajoin_does_not_affect_the_job(event_loop_database, start_worker, gate):
    await in_thread(start_worker)
    result = await tasks.hold.aenqueue("x")
    waiter = asyncio.create_task(ajoin(result))
    await in_thread(wait_until, lambda: job_ends.end_reader._awaited, what="a call to wait")
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert not job_ends.end_reader._awaited
    gate.set()
    assert await ajoin(result, timeout=20) == "x"
    assert tasks.seen == []


async def test_a_timeout_around_ajoin(event_loop_database, start_worker, gate):
    """asyncio.timeout() of the caller raises its own TimeoutError."""
    await in_thread(start_worker)
    result = await tasks.hold.aenqueue("x")
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.1):
            await ajoin(result, timeout=30)
    assert "It continues" not in str(caught.value)
    gate.set()


def test_waiting_threads_hold_no_connection(worker, gate):
    """Each closes its connection, and one thread reads for all."""
    others = set(threading.enumerate())
    result = tasks.hold.enqueue("x")
    waiters = [Waiter(result) for _ in range(5)]
    wait_until(lambda: all(waiter.connection.connection is None for waiter in waiters), what="no connection")
    assert [thread.name for thread in set(threading.enumerate()) - others].count("notifications-join") <= 1
    gate.set()
    assert {waiter.until() for waiter in waiters} == {"x"}


async def test_a_waiting_request_holds_no_connection(event_loop_database, start_worker, gate):
    """An async view makes its queries in the thread of its request: the connection of that thread is closed."""
    await in_thread(start_worker)
    result = await tasks.hold.aenqueue("x")
    opened = []

    def query():
        Job.objects.exists()
        opened.append(connections["default"])

    async with ThreadSensitiveContext():
        await sync_to_async(query)()
        assert opened[0].connection is not None
        waiter = asyncio.create_task(ajoin(result))
        await in_thread(wait_until, lambda: job_ends.end_reader._awaited, what="a call to wait")
        assert opened[0].connection is None
        gate.set()
        assert await waiter == "x"


@pytest.mark.django_db(transaction=True)
def test_join_is_refused_inside_a_transaction():
    with transaction.atomic():
        result = tasks.noop.enqueue()
        with pytest.raises(
            RuntimeError, match=r"no worker sees it before this transaction commits. Wait for it after"
        ):
            join(result)
    finish(result, state="succeeded", result="7")
    with transaction.atomic():
        assert join(result) == 7


async def test_join_is_refused_on_an_event_loop():
    with pytest.raises(SynchronousOnlyOperation, match=r"would block the event loop. Use await ajoin"):
        join(uuid.uuid4())


@pytest.mark.django_db(transaction=True)
def test_the_thread_ends_when_nothing_is_waited_for(monkeypatch):
    """The next wait starts it again."""
    for _ in range(2):
        with pytest.raises(TimeoutError):
            join(tasks.noop.enqueue(), timeout=0.05)
        wait_until(lambda: not job_ends.end_reader._thread.is_running, what="the thread to end")
