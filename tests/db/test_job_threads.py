"""The threads for the calls of async jobs: how many there are, and what waits for one."""

import asyncio
import threading

import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from django.db import connection

from notifications.context import set_current_execution
from notifications.db import app_sync_to_async, catching
from notifications.db.job_threads import JobThreads
from notifications.worker import NoThread
from tests.support.faults.scarcity import fail_thread_starts
from tests.support.waiting import wait_until

NAME = "test-job-threads"


@pytest.fixture
def gate():
    event = threading.Event()
    yield event
    event.set()
    wait_until(lambda: not live(), what="the threads to end")


@pytest.fixture
def make(gate):
    made = []

    def make(size, limit):
        made.append(JobThreads(size, NAME, limit=limit))
        return made[-1]

    yield make
    gate.set()
    for each in made:
        each.shutdown()


def live():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(NAME)]


async def until(condition):
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_a_call_waits_for_no_call_that_lasts(make, gate):
    """Until there are as many threads as there may be."""
    threads, ran = make(1, 3), []
    lasting = [threads.submit(gate.wait) for _ in range(2)]
    await asyncio.wrap_future(threads.submit(ran.append, 1))
    lasting.append(threads.submit(gate.wait))
    await until(lambda: all(call.running() for call in lasting))
    waiting = threads.submit(ran.append, 2)
    assert len(live()) == 3
    gate.set()
    await asyncio.wrap_future(waiting)
    assert ran == [1, 2]
    await until(lambda: len(live()) == 1)


async def test_calls_that_wait_at_the_end_are_made(make, gate):
    threads, ran = make(1, 1), []
    threads.submit(gate.wait)
    waiting = [threads.submit(ran.append, number) for number in range(3)]
    threads.shutdown()
    with pytest.raises(RuntimeError, match="is shut down"):
        threads.submit(ran.append, 4)
    gate.set()
    for call in waiting:
        await asyncio.wrap_future(call)
    assert ran == [0, 1, 2]


async def test_a_call_that_is_cancelled_in_the_line_is_not_made(make, gate):
    threads, ran = make(1, 1), []
    threads.submit(gate.wait)
    cancelled, waiting = threads.submit(ran.append, 1), threads.submit(ran.append, 2)
    assert cancelled.cancel()
    gate.set()
    await asyncio.wrap_future(waiting)
    assert ran == [2]


async def test_without_a_thread(make, gate, monkeypatch):
    """A call fails if there is no thread at all, and else waits for one."""
    threads = make(2, 2)
    with monkeypatch.context() as patch:
        fail_thread_starts(patch, prefix=NAME)
        with pytest.raises(NoThread):
            await asyncio.wrap_future(threads.submit(gate.wait))
    held = threads.submit(gate.wait)
    await until(held.running)
    fail_thread_starts(monkeypatch, prefix=NAME)
    waiting = threads.submit(live)
    gate.set()
    assert await asyncio.wrap_future(waiting)


class Execution:
    """Stands for that of a job."""

    is_over = False


async def call_in_jobs(threads, *functions):
    """Call each of these as the code of another job, one after the other; return the results."""

    async def run(function):
        execution = Execution()
        set_current_execution(execution)
        try:
            return await function()
        finally:
            execution.is_over = True
            threads.end_job(execution)

    async with ThreadSensitiveContext(executor=threads):
        return [await asyncio.create_task(run(function)) for function in functions]


def read_text():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 'a'")
        return cursor.fetchone()[0]


def set_row_factory():
    connection.ensure_connection()
    connection.connection.row_factory = lambda *_: pytest.fail("It is that of another job.")


async def app_function():
    return await app_sync_to_async(lambda: None)()


def call_app_in_between():
    """Code of the project that calls an async function of the app."""
    set_row_factory()
    async_to_sync(app_function)()


def call_project_code():
    """A function of the app that calls code of the project."""
    with catching():
        set_row_factory()


@pytest.mark.skipif(connection.vendor != "sqlite", reason="It sets an attribute of SQLite's connections.")
@pytest.mark.parametrize(
    "change",
    [
        sync_to_async(set_row_factory),
        sync_to_async(call_app_in_between),
        app_sync_to_async(call_project_code),
    ],
)
async def test_what_a_call_sets_does_not_reach_the_next_job(transactional_db, make, change):
    threads = make(1, limit=1)
    before, _, after = await call_in_jobs(threads, sync_to_async(read_text), change, sync_to_async(read_text))
    assert before == after == "a"


async def test_jobs_that_end_after_their_threads(make, gate):
    """A thread that has ended, because there were enough free ones, makes no more calls."""
    threads, executions, calls = make(1, 3), [Execution(), Execution()], []

    async def call(execution):
        set_current_execution(execution)
        calls.append(threads.submit(gate.wait))

    for execution in executions:
        await asyncio.create_task(call(execution))
    await until(lambda: len(calls) == 2 and all(call.running() for call in calls))
    gate.set()
    for each in calls:
        await asyncio.wrap_future(each)
    await until(lambda: len(live()) == 1)
    for execution in executions:
        threads.end_job(execution)
    assert await asyncio.wrap_future(threads.submit(int)) == 0
