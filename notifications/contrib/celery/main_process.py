"""The main process of a Celery worker: the lease of its row, and what it does for all jobs and streams."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

from celery.concurrency import get_implementation
from celery.worker import state as worker_state
from django.db import connections

from notifications.contrib.celery import checks, held_reports
from notifications.contrib.celery.lost_tasks import LostTasks
from notifications.contrib.celery.recorder import recorder
from notifications.db import UNAVAILABLE, connection
from notifications.db.deadlines import limit_this_thread
from notifications.db.unavailable import log_if_not_migrated
from notifications.extension import Upkeep, Where
from notifications.models import uuid7
from notifications.worker import Lease, start_thread

logger = logging.getLogger("notifications.jobs")

#: Seconds between two rounds of maintenance, and between two looks for lost tasks, of which a random part is added so
#: that the workers do not look at once.
ROUND_INTERVAL_SECONDS, LOST_INTERVAL_SECONDS, LOST_JITTER_SECONDS = 1.0, 3.0, 2.0
#: Seconds that a duty of the upkeep may take in one round.
MAX_DUTY_SECONDS = 1.0
#: Seconds that the end of the process waits for what is not recorded yet.
DRAIN_SECONDS = 5.0


class MainProcess:
    """The lease of a Celery worker, from ``start()`` to ``stop()``.

    The row says ``concurrency`` 0: this worker claims no jobs.
    """

    def __init__(self, app: Any, hostname: str, queues: list[str]) -> None:
        self.app = app
        self.pid = os.getpid()
        self.lease = Lease(
            queues=[f"celery:{name}" for name in queues],
            concurrency=0,
            load=lambda: len(worker_state.active_requests),
            held=held_reports.open_counts().read,
        )
        self.lost_tasks = LostTasks(app, hostname, self.lease)
        self._stopped = threading.Event()
        self._upkeep = Upkeep(Where.OBSERVER, seconds=MAX_DUTY_SECONDS, may_reap=self.lease.may_reap)

    def start(self) -> None:
        """Begin the lease, and rounds, on a thread."""
        start_thread(self._run, "notifications-celery-main")

    def stop(self) -> None:
        """End the lease, after the tasks of this worker have ended."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        recorder.drain(DRAIN_SECONDS)
        self._upkeep.project_threads.end(0)
        self.lease.stop()
        recorder.call(self.lease.end, wait=DRAIN_SECONDS)

    def _run(self) -> None:
        limit_this_thread()
        while not self._stopped.is_set() and not self._try(self.lease.start, "begin the lease"):
            self._stopped.wait(1.0)
        # On a thread of its own, because it waits for the result backend.
        what = "look for lost tasks"
        pause, jitter = LOST_INTERVAL_SECONDS, LOST_JITTER_SECONDS
        start_thread(
            self._run_rounds, "notifications-celery-lost", what, self.lost_tasks.run_round, pause, jitter
        )
        self._run_rounds("run maintenance", self._upkeep.run_round, ROUND_INTERVAL_SECONDS)

    def _run_rounds(
        self, what: str, function: Callable[[], object], pause: float, jitter: float = 0.0
    ) -> None:
        limit_this_thread()
        recorder.signals.use_on_this_thread()
        while not self._stopped.wait(pause + random.random() * jitter):
            self._try(function, what)
        connections.close_all()

    def _try(self, function: Callable[[], object], what: str) -> bool:
        try:
            function()
        except UNAVAILABLE as exc:
            if not log_if_not_migrated(exc):
                logger.warning("Could not %s of a Celery worker, which is tried again: %s", what, exc)
            connections.close_all()
            return False
        except Exception as exc:
            if not log_if_not_migrated(exc):
                logger.exception("Could not %s of a Celery worker", what)
            return False
        return True


_main: MainProcess | None = None
#: Stands for this process where it is no worker of Celery.
_process_id = uuid7()


def worker_id() -> UUID:
    """Return the id of the worker that runs tasks in this process, which child processes inherit."""
    return _main.lease.worker if _main else _process_id


def prepare(sender: Any = None, **kwargs: Any) -> None:
    """Choose the id of the worker, before it starts its child processes.

    Refuses to start them on SQLite: a child that is forked while another thread of this process is inside SQLite has
    copies of its locks that are never released, and waits for them for ever.
    """
    global _main
    if connection().vendor == "sqlite" and "prefork" in get_implementation(sender.pool_cls).__module__:
        raise SystemExit(  # Celery logs any other exception of a receiver, and goes on
            "Celery's pool prefork does not work with SQLite. Start the worker with --pool threads, or use PostgreSQL."
        )
    _main = MainProcess(sender.app, sender.hostname, sorted(sender.app.amqp.queues.consume_from))


def start(sender: Any = None, **kwargs: Any) -> None:
    """Begin the lease when the worker is ready."""
    if _main:
        checks.log_problems(_main.app.tasks)
        # All pools know their processes but "threads", which has none.
        _main.lost_tasks.process_ids = lambda: {os.getpid(), *sender.pool.info.get("processes", ())}
        _main.start()


def stop(**kwargs: Any) -> None:
    """End the lease when the worker has ended its tasks."""
    if _main and _main.pid == os.getpid():
        _main.stop()


def drain(**kwargs: Any) -> None:
    """Wait, before a child process ends, until what its threads record is recorded."""
    recorder.drain(DRAIN_SECONDS)
