"""Daemon threads with their connections looked after."""

import asyncio
import os
import threading
from contextlib import suppress

import pytest
from django.contrib.auth.models import Group
from django.db import InternalError, connection, connections

from notifications.db.threads import MAX_THREADS_PER_SLOT, DaemonExecutor, NoThread
from tests.support.faults.scarcity import fail_thread_starts
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly_on_old_django


@pytest.fixture
def executor():
    executor = DaemonExecutor(2, "under-test")
    yield executor
    executor.shutdown()
    wait_until(lambda: not names(), what="the threads to end")


def names():
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("under-test"))


def test_threads_are_started_when_they_are_needed(executor):
    """One after the other takes one thread; at once no more than there may be, and the rest wait."""
    for _ in range(5):
        assert executor.submit(threading.get_ident).result(60)
        wait_until(lambda: executor._open == 0, what="the thread to be idle")
    assert names() == ["under-test-1"]
    gate = threading.Event()
    waiting = [executor.submit(gate.wait, 5) for _ in range(6)]
    assert names() == ["under-test-1", "under-test-2"]
    assert not any(future.done() for future in waiting)
    gate.set()
    assert all(future.result(60) for future in waiting)


def test_a_call_that_is_detached_gives_its_place_to_another_thread(executor):
    """What waits in line is done; the thread that comes back is one too many and ends."""
    gate = threading.Event()
    hanging = [executor.submit(gate.wait, 30) for _ in range(2)]
    wait_until(lambda: all(future.running() for future in hanging), what="both to run")
    waiting = executor.submit(int)
    assert executor.detach(hanging[0])
    assert waiting.result(60) == 0
    assert len(names()) == 3
    gate.set()
    wait_until(lambda: len(names()) == 2, what="one thread to end")
    assert executor.submit(int).result(60) == 0
    assert not executor.detach(hanging[0])


def test_threads_are_replaced_so_often_and_no_more(executor):
    """Then what waits in line, and what comes, is refused at once; when calls end after all, it is not."""
    gate = threading.Event()
    hanging = [executor.submit(gate.wait, 30) for _ in range(2 * MAX_THREADS_PER_SLOT)]
    waiting = executor.submit(int)
    for future in hanging:
        wait_until(future.running, what="the call to run")
        assert executor.detach(future)
    assert len(names()) == 2 * MAX_THREADS_PER_SLOT
    message = f"All {2 * MAX_THREADS_PER_SLOT} threads of under-test are in calls that do not end."
    assert str(waiting.exception(60)) == message
    with pytest.raises(NoThread, match=message):
        executor.submit(int)
    gate.set()
    wait_until(lambda: len(names()) == 2, what="the others to end")
    assert executor.submit(int).result(60) == 0


def test_a_call_whose_submit_raised_never_runs(executor, monkeypatch):
    """The process has no thread to spare; when it has again, calls are run, but not those that were refused."""
    ran = []
    scarcity = fail_thread_starts(monkeypatch, prefix="under-test")
    for number in range(3):
        with pytest.raises(NoThread, match="can't start new thread"):
            executor.submit(ran.append, number)
    scarcity.end()
    executor.submit(ran.append, "submitted").result(60)
    gate = threading.Event()
    waiting = [executor.submit(gate.wait, 30) for _ in range(2)]
    wait_until(lambda: all(future.running() for future in waiting), what="both threads to be there")
    gate.set()
    assert ran == ["submitted"]


def test_calls_wait_for_a_busy_thread_while_no_other_can_be_started(executor, monkeypatch):
    """The second thread is started with the first call that finds it possible."""
    gate = threading.Event()
    first = executor.submit(gate.wait, 30)
    scarcity = fail_thread_starts(monkeypatch, prefix="under-test")
    second = executor.submit(int)
    assert not second.done()
    scarcity.end()
    assert executor.submit(int).result(60) == 0
    assert second.result(60) == 0
    assert not first.done()
    gate.set()


def test_the_thread_of_a_waiting_call_is_not_replaced(executor, monkeypatch):
    """What waits for another call goes on without, and later calls find their threads."""
    gate = threading.Event()
    futures = [executor.submit(gate.wait, 30) for _ in range(2)]
    wait_until(lambda: all(future.running() for future in futures), what="both to run")
    waiting = executor.submit(int)
    scarcity = fail_thread_starts(monkeypatch, prefix="under-test")
    with executor.release_thread(futures[0]):
        assert not waiting.done()
        scarcity.end()
        assert executor.submit(int).result(60) == 0
    assert waiting.result(60) == 0
    gate.set()
    wait_until(lambda: len(names()) == 2, what="one thread to end")


def test_calls_in_line_fail_when_the_last_thread_cannot_be_replaced(monkeypatch):
    """The one that runs was detached, so no thread would run them."""
    executor = DaemonExecutor(1, "under-test")
    gate = threading.Event()
    hanging = executor.submit(gate.wait, 30)
    wait_until(hanging.running, what="the call to run")
    waiting = executor.submit(int)
    scarcity = fail_thread_starts(monkeypatch, prefix="under-test")
    assert executor.detach(hanging)
    assert isinstance(waiting.exception(60), NoThread)
    scarcity.end()
    assert executor.submit(int).result(60) == 0
    gate.set()
    wait_until(lambda: len(names()) == 1, what="one thread to end")
    executor.shutdown()
    wait_until(lambda: not names(), what="the thread to end")


def test_no_more_calls_after_the_end(executor):
    executor.shutdown()
    with pytest.raises(RuntimeError, match="The executor under-test is shut down"):
        executor.submit(int)


@pytest.mark.parametrize("error", [ValueError(), SystemExit(1), KeyboardInterrupt()])
def test_what_a_call_raises(executor, error):
    """What would end an event loop that waits for it becomes an error."""

    def fail():
        raise error

    raised = executor.submit(fail).exception(60)
    assert isinstance(raised, Exception) and error in (raised, raised.__cause__)
    assert executor.submit(int).result(60) == 0


async def test_stop_iteration(executor):
    """asyncio would leave who waits for it waiting for ever."""
    with pytest.raises(RuntimeError, match=r"StopIteration\(\)"):
        await asyncio.wait_for(asyncio.wrap_future(executor.submit(next, iter(()))), 60)


@pytest.mark.parametrize("when", [1, 2])
def test_a_connection_that_cannot_be_looked_after(monkeypatch, when):
    """Before the call it is the call's error, after it the log's; the one thread goes on."""
    from notifications.db import threads

    executor = DaemonExecutor(1, "under-test")

    check, calls = threads.check_connections, []

    def fail(**options):
        calls.append(1)
        if len(calls) == when:
            raise RuntimeError("cannot close")
        return check(**options)

    monkeypatch.setattr(threads, "check_connections", fail)
    first = executor.submit(int)
    if when == 1:
        assert isinstance(first.exception(60), RuntimeError)
    else:
        assert first.result(60) == 0
    assert executor.submit(int).result(60) == 0
    assert names() == ["under-test-1"]
    executor.shutdown()
    wait_until(lambda: not names(), what="the thread to end")


@pytest.mark.django_db(transaction=True)
def test_connections_are_closed_at_the_end():
    executor = DaemonExecutor(1, "under-test")
    here = []

    def use():
        connection.ensure_connection()
        here.append(connection.connection)
        here.append(connection)

    executor.submit(lambda: connection.inc_thread_sharing()).result(60)
    executor.submit(use).result(60)
    executor.shutdown()
    wait_until(lambda: not names(), what="the thread to end")
    with pytest.raises(Exception, match="closed"):
        here[0].execute("SELECT 1")


@pytest.mark.django_db(transaction=True)
def test_connections_are_kept_between_calls_until_the_thread_is_idle(set_bounds):
    """Although CONN_MAX_AGE is 0; and one that broke is replaced."""
    assert connections.settings["default"]["CONN_MAX_AGE"] == 0
    executor = DaemonExecutor(1, "under-test", keep_connections=True)

    def use():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        connection.inc_thread_sharing()
        return connections["default"].connection, connections["default"]

    first, wrapper = executor.submit(use).result(60)
    assert executor.submit(use).result(60)[0] is first
    first.close()
    executor.submit(use).exception(60)  # PostgreSQL notices it before the call, SQLite by the call's error
    second, _ = executor.submit(use).result(60)
    assert second is not first
    set_bounds(idle=0.05)
    assert executor.submit(use).result(60)[0] is second
    wait_until(lambda: wrapper.connection is None, what="the connection to be closed")
    assert executor.submit(use).result(60)[0] is not second
    executor.shutdown()
    wait_until(lambda: not names(), what="the thread to end")


@pytest.mark.django_db(transaction=True)
def test_a_check_opens_no_connection(django_db_blocker, caplog):
    """As in a thread that outlives the test whose connection it keeps."""
    executor = DaemonExecutor(1, "under-test", keep_connections=True)
    executor.submit(lambda: connection.ensure_connection()).result(60)
    with django_db_blocker.block():
        assert executor.submit(int).result(60) == 0
    assert executor.submit(int).result(60) == 0
    executor.shutdown()
    wait_until(lambda: not names(), what="the thread to end")
    assert not caplog.messages


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="Sessions of PostgreSQL may be read-only.")
@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("age", [0, None])
def test_a_call_that_catches_an_error_of_its_connection(keeps, age):
    """The connection answers SELECT 1. The next call gets another one, however long connections are kept."""
    executor = DaemonExecutor(1, "under-test", keep_connections=keeps)

    def use(statement):
        connection.settings_dict = {**connection.settings_dict, "CONN_MAX_AGE": age}
        with connection.cursor() as cursor:
            cursor.execute(statement)
            with suppress(InternalError):
                return Group.objects.create(name="x").pk

    assert executor.submit(use, "SET default_transaction_read_only = on").result(60) is None
    assert executor.submit(use, "SELECT 1").result(60)
    executor.shutdown()
    wait_until(lambda: not names(), what="the thread to end")


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_fork(executor):
    """The child has none of the threads, also if the lock was held. It starts its own, for its own calls."""
    gate, ran = threading.Event(), []
    futures = [executor.submit(gate.wait, 30) for _ in range(2)]
    wait_until(lambda: all(future.running() for future in futures), what="both to run")
    executor.submit(ran.append, "by the parent")
    with executor._lock:
        pid = os.fork()
        if not pid:
            executor.submit(ran.append, "by the child").exception(10)
            os._exit(0 if ran == ["by the child"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    gate.set()
    assert executor.submit(int).result(60) == 0


def test_a_thread_that_fails_between_two_calls_is_replaced(executor, monkeypatch):
    """Otherwise calls would wait for ever, because the executor would still count it."""
    take_next = executor._next

    def fail():
        monkeypatch.setattr(executor, "_next", take_next)
        raise MemoryError

    gate = threading.Event()
    first = executor.submit(gate.wait, 30)
    monkeypatch.setattr(executor, "_next", fail)
    gate.set()
    assert first.result(60)
    wait_until(lambda: executor._next is take_next, what="the thread to fail")
    assert [executor.submit(int, number).result(60) for number in range(3)] == [0, 1, 2]


def test_calls_fail_when_a_failed_thread_cannot_be_replaced(monkeypatch):
    executor = DaemonExecutor(1, "under-test")
    gate = threading.Event()
    first = executor.submit(gate.wait, 30)
    waiting = executor.submit(int)
    scarcity = fail_thread_starts(monkeypatch, prefix="under-test")

    def fail():
        raise MemoryError

    monkeypatch.setattr(executor, "_next", fail)
    gate.set()
    assert first.result(60)
    assert isinstance(waiting.exception(60), MemoryError)
    monkeypatch.undo()
    scarcity.end()
    assert executor.submit(int).result(60) == 0
    executor.shutdown()
    wait_until(lambda: not names(), what="the threads to end")
