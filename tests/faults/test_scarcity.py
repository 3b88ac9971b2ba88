"""Threads, files, memory, disk or connections run out at the n-th call, and later become available again.

One process has a hub with two sockets and a worker. The test repeats refused calls, as a client does.
"""

import asyncio
import contextlib
import logging
import os
import threading
from collections import Counter
from datetime import timedelta
from functools import partial

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from notifications.api import ajoin, notify
from notifications.jobs import job_ends
from notifications.models import Job, Notification
from notifications.realtime import doorbell, hub
from notifications.worker import DaemonExecutor, joining
from tests.jobs import tasks
from tests.jobs.conftest import LocalWorker
from tests.realtime.conftest import Socket, in_thread, sign_in
from tests.support.faults import scarcity
from tests.support.faults.engine import ROUNDS
from tests.support.faults.scarcity import Scarcity
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly_on_postgres

DatabaseWrapper = type(connection._connections[connection._alias])


def fail_statements(monkeypatch, error, *, nth=1):
    """Let statements of the app's threads fail before they are executed, from the n-th on.

    Statements of the test itself, on threads with other names, are not counted.
    """
    scarcity = Scarcity(lambda: None, error, nth=nth, counts=lambda: is_app_thread())

    def wrapper(execute, sql, params, many, context):
        scarcity()
        return execute(sql, params, many, context)

    connect = BaseDatabaseWrapper.connect

    def connect_with_wrapper(connection):
        connect(connection)
        if wrapper not in connection.execute_wrappers:
            connection.execute_wrappers.append(wrapper)

    monkeypatch.setattr(BaseDatabaseWrapper, "connect", connect_with_wrapper)
    return scarcity


def fail_connections(monkeypatch, error, *, nth=1):
    """Let new database connections of the app's threads fail with the driver's error, from the n-th on."""
    scarcity = Scarcity(
        DatabaseWrapper.get_new_connection, error, nth=nth, counts=lambda *args: is_app_thread()
    )
    monkeypatch.setattr(DatabaseWrapper, "get_new_connection", scarcity)
    return scarcity


def is_app_thread():
    return threading.current_thread().name.startswith("notifications")


def full_disk_error():
    return OperationalError("database or disk is full")


def memory_error():
    return MemoryError()


def no_file_error():
    return connection.Database.OperationalError("unable to open database file: Too many open files")


def full_pool_error():
    """Return the error of Django's connection pool when no connection is returned in time."""
    if connection.vendor != "postgresql":
        return no_file_error()
    from psycopg_pool import PoolTimeout

    return PoolTimeout("couldn't get a connection after 10.00 sec")


#: The maximum time until everything has recovered.
TIMEOUT_SECONDS = 40
#: The number of the first call that fails; in the long form each call is the first once.
STARTS = range(1, 200) if ROUNDS else (1, 4, 8)
CONNECTIONS = range(1, 200) if ROUNDS else (1, 2, 4, 7)
STATEMENTS = range(1, 200) if ROUNDS else (1, 6, 15, 40)
#: The names of all threads that the app starts.
THREADS = (
    *("hub", "auth", "numbers", "doorbell", "doorbell-sqlite", "doorbell-postgres"),
    *("lease", "writer", "watchdog", "database", "sync", "join"),
)
CAUSES = {
    "threads": (scarcity.fail_thread_starts, STARTS),
    **{name: (partial(scarcity.fail_thread_starts, prefix=f"notifications-{name}"), [1]) for name in THREADS},
    "files": (partial(fail_connections, error=no_file_error), CONNECTIONS),
    "pool": (partial(fail_connections, error=full_pool_error), CONNECTIONS),
    "disk": (partial(fail_statements, error=full_disk_error), STATEMENTS),
    "memory": (partial(fail_statements, error=memory_error), STATEMENTS),
}


@pytest.fixture(autouse=True)
def short_intervals(set_bounds, short_ticks):
    """Shorten the intervals of retries from seconds to a tenth of a second."""
    set_bounds(polls=0.1, retries=0.1, joins=0.0)


@pytest.fixture
def late_calls(monkeypatch):
    """A list of calls that ran although submit() had raised. There must be none."""
    calls = []
    submit = DaemonExecutor.submit

    def submit_recorded(self, fn, /, *args, **kwargs):
        refused = threading.Event()

        def call():
            if refused.is_set():
                calls.append(fn)
            return fn(*args, **kwargs)

        try:
            return submit(self, call)
        except BaseException:
            refused.set()
            raise

    monkeypatch.setattr(DaemonExecutor, "submit", submit_recorded)
    return calls


@pytest.mark.nightly_names("*[files]", "*[memory]", "*[threads]")
@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.timeout(1800 if ROUNDS else 300)
def test_recovery(cause, transactional_db, user, other_user, late_calls, caplog):
    """Each socket gets its frames, each job ends once with one notification, and no thread or connection is leaked."""
    caplog.set_level(logging.CRITICAL, logger="notifications")
    inject, calls = CAUSES[cause]
    if cause.startswith("doorbell-") and not connection.vendor.startswith(cause.removeprefix("doorbell-")):
        pytest.skip("This thread exists only with the other database.")
    users = [user, other_user]
    connection.close()
    for nth in calls:
        before = count_threads(), count_files()
        with pytest.MonkeyPatch.context() as patch:
            # These objects are new, as in a new process.
            bell = doorbell.Doorbell()
            patch.setattr(doorbell, "doorbell", bell)
            patch.setattr(doorbell, "listen", bell.listen)
            patch.setattr(doorbell, "restart_missing", bell.restart_missing)
            patch.setattr(job_ends, "end_reader", job_ends.JobEndReader())
            patch.setattr(joining, "end_reader", job_ends.end_reader)
            failing = inject(patch, nth=nth)
            asyncio.run(Round(users, failing).run())
        wait_until(
            lambda before=before: count_threads() <= before[0] and count_files() <= before[1],
            timeout=TIMEOUT_SECONDS,
            what=f"the initial number of threads and files, not {count_threads()} and {count_files()}",
        )
        assert_each_job_ended_once(users)
        assert not late_calls, "A call whose submit() raised ran later."
        print(f"{cause}: {failing.failures} calls failed from the one with number {nth} on")
        if not failing.failures:
            break
    assert failing.calls, "No call was counted."


class Round:
    """Two users with sockets, and a worker, while a resource runs out and afterwards."""

    def __init__(self, users, failing):
        self.users = users
        self.failing = failing
        self.sockets = []
        self.results = []

    async def run(self):
        cookies = [await in_thread(sign_in, user) for user in self.users]
        starting = asyncio.create_task(asyncio.to_thread(self.start_worker))
        readers = [
            asyncio.create_task(self.follow(*user_and_cookie))
            for user_and_cookie in zip(self.users, cookies, strict=True)
        ]
        self.received = {user.pk: asyncio.Queue() for user in self.users}
        try:
            for number in range(3):
                await in_thread(self.enqueue)
                await in_thread(notify, self.users, f"during scarcity {number}")
                await self.wait_until(lambda: self.failing.failures, 0.3)
            later = await in_thread(self.enqueue_later)
            joining = [asyncio.create_task(self.join(later)) for _ in range(2)]
            await self.wait_until(lambda: self.failing.failures, 1.0)
            await asyncio.sleep(0.2)
            self.failing.end()
            await in_thread(self.enqueue)
            await in_thread(notify, self.users, "after scarcity")
            async with asyncio.timeout(TIMEOUT_SECONDS):
                for user in self.users:
                    while await self.received[user.pk].get() != "after scarcity":
                        pass
                await asyncio.gather(*joining)
                for result in self.results:
                    await self.join(result)
            await self.wait_until(lambda: doorbell.doorbell._listener, TIMEOUT_SECONDS)
            assert doorbell.doorbell._listener, "The doorbell has not recovered."
        finally:
            self.failing.end()
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            await hub.close_current_hub()
            (await starting).stop()
            await sync_to_async(connections.close_all)()

    def start_worker(self):
        return LocalWorker(concurrency=4)

    def enqueue(self):
        for user in self.users:
            for task in (tasks.add, tasks.echo_after_query):
                self.results.append(task.using(owner=user).enqueue(1, 2))

    def enqueue_later(self):
        """Enqueue a job that is not done when a client begins to wait for it."""
        run_after = timezone.now() + timedelta(seconds=1)
        self.results.append(tasks.add.using(owner=self.users[0], run_after=run_after).enqueue(1, 2))
        return self.results[-1]

    async def follow(self, user, cookie):
        """Stay connected, and put the titles of notifications into a queue."""
        while True:
            socket = Socket(cookie)
            try:
                await socket.handshake()
                socket.send_frame("hello")
                while (frame := await socket.receive())["op"] != "bye":
                    socket.ack_if_requested(frame)
                    for item in frame.get("items", ()):
                        self.received[user.pk].put_nowait(item["title"])
            finally:
                socket.task.cancel()
                await asyncio.gather(socket.task, return_exceptions=True)
            await asyncio.sleep(0.05)

    async def join(self, result):
        """Wait for a job; try again while no thread can be started for it."""
        while True:
            try:
                return await ajoin(result)
            except RuntimeError:
                await asyncio.sleep(0.05)
            except Exception as exc:  # The error of a job whose own query was refused.
                return exc

    async def wait_until(self, condition, seconds):
        """Wait for a condition at most `seconds`, without an error: no further call may be made that could fail."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():  # noqa: ASYNC110  # Other threads change it.
                    await asyncio.sleep(0.01)


def assert_each_job_ended_once(users):
    jobs = list(Job.objects.all())
    assert {job.state for job in jobs} <= {Job.State.SUCCEEDED, Job.State.FAILED}
    notified = Counter(Notification.objects.exclude(job=None).values_list("job", flat=True))
    assert notified == Counter(job.pk for job in jobs)
    for user in users:
        seqs = [
            seq
            for model in (Job, Notification)
            for seq in model.objects.filter(user=user).values_list("seq", flat=True)
        ]
        assert sorted(seqs) == list(range(1, len(seqs) + 1))
    connection.close()


def count_threads():
    """Return the number of threads of the app, without the permanent one of a doorbell."""
    names = [thread.name for thread in threading.enumerate()]
    return sum(name.startswith("notifications") and name != "notifications-doorbell" for name in names)


def count_files():
    """Return the number of open files."""
    return len(os.listdir("/proc/self/fd"))
