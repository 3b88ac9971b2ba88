"""Fixtures and helpers for jobs: a worker on a thread of the test process, and waiting for jobs."""

import asyncio
import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import connections
from django.utils import timezone

from notifications.models import Job, Notification
from notifications.models import Worker as WorkerRow
from notifications.realtime import doorbell, listen
from notifications.signals import rung
from notifications.worker import JobWorker
from tests.contrib.engines import recording_engine
from tests.jobs import tasks
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def short_join_idle(set_bounds):
    """Have the threads that wait for jobs end with the test, whose database is deleted then."""
    set_bounds(joins=0.0)
    yield
    names = {"notifications-join"} | (
        set() if doorbell.doorbell._callbacks else {"notifications-doorbell-sqlite"}
    )
    wait_until(lambda: not names & {thread.name for thread in threading.enumerate()}, what="threads to end")


@pytest.fixture
def with_engine(settings):
    """Jobs of the backend "default" belong to an engine, those of "builtin" to the built-in worker."""
    backend = {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": []}
    engine = {"OPTIONS": {"engine": "tests.contrib.engines.recording_engine"}}
    settings.TASKS = {"default": backend | engine, "builtin": backend}
    recording_engine.messages.clear()
    return recording_engine


@pytest.fixture
def live_worker(db):
    """live_worker(seconds) returns the id of a worker whose lease ends that many seconds from now."""

    def make(seconds=20, **fields):
        now = timezone.now()
        row = WorkerRow.objects.create(
            started_at=now,
            lease_until=now + timedelta(seconds=seconds),
            concurrency=1,
            process="",
            host="elsewhere",
            **fields,
        )
        return row.id

    return make


@pytest.fixture
def rings():
    """A list with, for each ring sent during the test, whether it was one for the queue."""
    received = []

    def receive(queue, **kwargs):
        received.append(queue)

    rung.connect(receive)
    yield received
    rung.disconnect(receive)


@pytest.fixture(autouse=True)
def longest_backoff(monkeypatch):
    """Use the longest backoff instead of a random one, so that no retry comes earlier than expected."""
    monkeypatch.setattr("notifications.jobs.outcomes.random", SimpleNamespace(uniform=lambda low, high: high))


@pytest.fixture
def gate():
    """An event for which tasks like `hold` wait. It is set after the test, so that all of them end."""
    tasks.gate.clear()
    tasks.held.clear()
    tasks.seen.clear()
    yield tasks.gate
    tasks.gate.set()


@pytest.fixture
def start_worker(transactional_db, gate):
    """start_worker(**options) starts a worker on a thread; all are stopped after the test, without a grace period."""
    started = []

    def start(**options):
        started.append(LocalWorker(**options))
        return started[-1]

    yield start
    gate.set()
    for worker in started:
        worker.stop()


@pytest.fixture
def worker(start_worker):
    """A running worker."""
    return start_worker()


@pytest.fixture
def over_at_once(set_bounds):
    """An alert is over as soon as its condition is."""
    set_bounds(delays=0)


class LocalWorker:
    """A worker with its own event loop on a thread. stop() raises what its run() raised."""

    def __init__(self, *, listen=listen, worker_class=JobWorker, **options):
        self.worker = worker_class(listen=listen, **options)
        self.id = self.worker.lease.worker
        self.error = None
        self.thread = threading.Thread(target=self._run, name="worker under test")
        self.thread.start()
        wait_until(lambda: self.worker.lease._until, what="the worker to start")

    def stop(self, grace=0, timeout=60):
        self.worker.stop(grace)
        self.thread.join(timeout)
        assert not self.thread.is_alive(), "The worker does not stop."
        if self.error:
            raise self.error

    def call(self, coroutine):
        """Run a coroutine in the worker's loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.worker.state.loop).result(60)

    def _run(self):
        try:
            asyncio.run(self.worker.run())
        except BaseException as exc:
            self.error = exc
        finally:
            connections.close_all()


def until_done(*results, timeout=60):
    """Wait until these jobs are done and return their rows, in this order."""
    ids = [result.id for result in results]

    def done():
        rows = {str(job.id): job for job in Job.objects.filter(id__in=ids)}
        return len(rows) == len(ids) and all(job.done for job in rows.values()) and [rows[id] for id in ids]

    return wait_until(done, timeout=timeout, what=f"{len(ids)} jobs to be done")


def until_state(result, state, timeout=60):
    """Wait until a job is in a state and return its row."""
    return wait_until(
        lambda: Job.objects.filter(id=result.id, state=state).first(), timeout=timeout, what=f"a {state} job"
    )


def notifications_of(user):
    """Return the notifications of a user, oldest first."""
    return list(Notification.objects.filter(user=user).order_by("id"))
