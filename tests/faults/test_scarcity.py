"""Threads, files, memory, disk or connections run out at the n-th call; with them back everything goes on by itself.

In this process: a hub with two sockets and a worker. What is refused meanwhile is asked again, as a client does.
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
from django.db import connection, connections
from django.utils import timezone

from notifications.api import ajoin, notify
from notifications.db.threads import DaemonExecutor
from notifications.jobs import awaited, joining
from notifications.models import Job, Notification
from notifications.realtime import doorbell, hub
from tests.faults.support import scarcity
from tests.faults.support.engine import ROUNDS
from tests.jobs import tasks
from tests.jobs.conftest import LocalWorker
from tests.realtime.conftest import Socket, in_thread, sign_in
from tests.support.waiting import wait_until

#: Seconds within which everything has to be whole again.
PATIENCE = 40
#: In the long form each call is once the first that fails, until there is none left to fail.
STARTS = range(1, 200) if ROUNDS else (1, 4, 8)
CONNECTIONS = range(1, 200) if ROUNDS else (1, 2, 4, 7)
STATEMENTS = range(1, 200) if ROUNDS else (1, 6, 15, 40)
#: All threads that the app starts here, by their names.
THREADS = (
    *("hub", "auth", "numbers", "doorbell", "doorbell-sqlite", "doorbell-postgres"),
    *("lease", "writer", "watchdog", "database", "sync", "join"),
)
CAUSES = {
    "threads": (scarcity.no_threads, STARTS),
    **{name: (partial(scarcity.no_threads, prefix=f"notifications-{name}"), [1]) for name in THREADS},
    "files": (partial(scarcity.failing_connections, error=scarcity.no_file), CONNECTIONS),
    "pool": (partial(scarcity.failing_connections, error=scarcity.full_pool), CONNECTIONS),
    "disk": (partial(scarcity.failing_statements, error=scarcity.full_disk), STATEMENTS),
    "memory": (partial(scarcity.failing_statements, error=scarcity.no_memory), STATEMENTS),
}


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    """What is tried again every few seconds is tried again ten times a second."""
    for name in (
        *(
            "jobs.worker.claim_check_loop.CLAIM_CHECK_INTERVAL_SECONDS",
            "jobs.worker.claim_loop.POLL_INTERVAL_SECONDS",
            "jobs.worker.cancel_loop.POLL_INTERVAL_SECONDS",
            "jobs.worker.loops.RETRY_INTERVAL_SECONDS",
            "jobs.worker.maintenance.ROUND_INTERVAL_SECONDS",
        ),
        *(
            "jobs.transitions.queueing.REQUEUE_DELAY_SECONDS",
            "realtime.delivery.RETRY_SECONDS",
            "realtime.clock.TICK_SECONDS",
        ),
        "realtime.doorbell.RESTART_INTERVAL_SECONDS",
    ):
        monkeypatch.setattr(f"notifications.{name}", 0.1)
    monkeypatch.setattr(awaited, "IDLE_SECONDS", 0.0)


@pytest.fixture
def submitted(monkeypatch):
    """Calls of which submit() raised and that ran all the same; there must be none."""
    wrong = []
    submit = DaemonExecutor.submit

    def watched(self, fn, /, *args, **kwargs):
        refused = threading.Event()

        def call():
            if refused.is_set():
                wrong.append(fn)
            return fn(*args, **kwargs)

        try:
            return submit(self, call)
        except BaseException:
            refused.set()
            raise

    monkeypatch.setattr(DaemonExecutor, "submit", watched)
    return wrong


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.timeout(300 + 20 * ROUNDS)
def test_all_goes_on_once_the_cause_is_gone(cause, transactional_db, django_user_model, submitted, caplog):
    """Each socket gets its frames, each job ends once and is told once, and no thread or connection is left over."""
    caplog.set_level(logging.CRITICAL, logger="notifications")
    inject, calls = CAUSES[cause]
    if cause.startswith("doorbell-") and not connection.vendor.startswith(cause.removeprefix("doorbell-")):
        pytest.skip("It is the other database's thread.")
    users = [django_user_model.objects.create_user(name) for name in ("ada", "bob")]
    connection.close()
    for nth in calls:
        before = threads(), files()
        with pytest.MonkeyPatch.context() as patch:
            # As in a process that has just begun.
            patch.setattr(doorbell, "doorbell", doorbell.Doorbell())
            patch.setattr(awaited, "waits", awaited.JobWaits())
            patch.setattr(joining, "waits", awaited.waits)
            failing = inject(patch, nth=nth)
            asyncio.run(Round(users, failing).run())
        wait_until(
            lambda before=before: threads() <= before[0] and files() <= before[1],
            timeout=PATIENCE,
            what=f"the threads and files of before, not {threads()} and {files()}",
        )
        assert_each_job_ended_once(users)
        assert not submitted, "A call whose submit raised ran later."
        print(f"{cause}: {failing.failures} calls failed from the one with number {nth} on")
        if not failing.failures:
            break
    assert failing.calls, "Nothing was refused."


class Round:
    """Two users at their sockets and a worker, while something runs out, and after it."""

    def __init__(self, users, failing):
        self.users = users
        self.failing = failing
        self.sockets = []
        self.results = []

    async def run(self):
        cookies = [await in_thread(sign_in, user) for user in self.users]
        starting = asyncio.create_task(asyncio.to_thread(self.start_worker))
        readers = [asyncio.create_task(self.follow(*who)) for who in zip(self.users, cookies, strict=True)]
        self.heard = {user.pk: asyncio.Queue() for user in self.users}
        try:
            for number in range(3):
                await in_thread(self.enqueue)
                await in_thread(notify, self.users, f"while something is missing {number}")
                await self.until(lambda: self.failing.failures, 0.3)
            later = await in_thread(self.enqueue_later)
            joining = [asyncio.create_task(self.joined(later)) for _ in range(2)]
            await self.until(lambda: self.failing.failures, 1.0)
            await asyncio.sleep(0.2)
            self.failing.end()
            await in_thread(self.enqueue)
            await in_thread(notify, self.users, "all is there again")
            async with asyncio.timeout(PATIENCE):
                for user in self.users:
                    while await self.heard[user.pk].get() != "all is there again":
                        pass
                await asyncio.gather(*joining)
                for result in self.results:
                    await self.joined(result)
            await self.until(lambda: doorbell.doorbell._listener and doorbell.doorbell._dispatcher, PATIENCE)
            assert doorbell.doorbell._listener and doorbell.doorbell._dispatcher, "The doorbell is not whole."
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
        """A job that is not done when somebody begins to wait for it."""
        begins = timezone.now() + timedelta(seconds=1)
        self.results.append(tasks.add.using(owner=self.users[0], run_after=begins).enqueue(1, 2))
        return self.results[-1]

    async def follow(self, user, cookie):
        """Be connected for ever, and put the titles that come into a queue."""
        while True:
            socket = Socket(cookie)
            try:
                await socket.handshake()
                socket.say("hello")
                while (frame := await socket.hear())["op"] != "bye":
                    socket.ack_if_asked(frame)
                    for item in frame.get("items", ()):
                        self.heard[user.pk].put_nowait(item["title"])
            finally:
                socket.task.cancel()
                await asyncio.gather(socket.task, return_exceptions=True)
            await asyncio.sleep(0.05)

    async def joined(self, result):
        """Wait for a job, as often as there is no thread for it."""
        while True:
            try:
                return await ajoin(result)
            except RuntimeError:
                await asyncio.sleep(0.05)
            except Exception as exc:  # the end of a job whose own query was refused
                return exc

    async def until(self, condition, seconds):
        """Wait until a condition holds, but no longer than so many seconds: there may be nothing left to fail."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():  # noqa: ASYNC110 (calls fail in other threads)
                    await asyncio.sleep(0.01)


def assert_each_job_ended_once(users):
    jobs = list(Job.objects.all())
    assert {job.state for job in jobs} <= {Job.State.SUCCEEDED, Job.State.FAILED}
    told = Counter(Notification.objects.exclude(job=None).values_list("job", flat=True))
    assert told == Counter(job.pk for job in jobs)
    for user in users:
        seqs = [
            seq
            for model in (Job, Notification)
            for seq in model.objects.filter(user=user).values_list("seq", flat=True)
        ]
        assert sorted(seqs) == list(range(1, len(seqs) + 1))
    connection.close()


def threads():
    """Threads of the app, without the one that a doorbell keeps for good."""
    names = [thread.name for thread in threading.enumerate()]
    return sum(name.startswith("notifications") and name != "notifications-doorbell" for name in names)


def files():
    """Open files, of the database and of loops."""
    return len(os.listdir("/proc/self/fd"))
