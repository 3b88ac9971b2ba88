"""The main process of a Celery worker: the lease of its row, and what it does for all jobs and streams."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from celery.worker import state as worker_state
from django.db import connections

from notifications import streams, times
from notifications.conf import settings
from notifications.db.deadlines import limit_this_thread
from notifications.db.forks import keep_out_of_transactions
from notifications.db.threads import check_connections, start_thread
from notifications.db.transactions import retrying_atomic
from notifications.ids import uuid7
from notifications.jobs.engines.celery import configured_tasks, reconcile
from notifications.jobs.engines.celery.recorder import DATABASE_UNAVAILABLE, recorder
from notifications.jobs.statistics import folding
from notifications.jobs.transitions import finishing, manual, observed_batches, reaping, signal_queue
from notifications.jobs.worker.lease import Lease, find_dead_neighbors
from notifications.jobs.worker.maintenance import (
    FOLD_INTERVAL_SECONDS,
    PRUNE_INTERVAL_SECONDS,
    is_oldest_worker,
)
from notifications.streams.retention import Pruning

logger = logging.getLogger("notifications.jobs")

#: Seconds between two rounds, of which a random part is added, so that the workers do not look at once.
ROUND_INTERVAL_SECONDS, ROUND_JITTER_SECONDS = 3.0, 2.0
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
        )
        self._reconciler = reconcile.Reconciler(app, hostname, self.lease)
        self._stopped = threading.Event()
        self._prune_at = time.monotonic() + PRUNE_INTERVAL_SECONDS * random.random()
        self._fold_at = time.monotonic() + FOLD_INTERVAL_SECONDS

    def start(self) -> None:
        """Begin the lease, and rounds, on a thread."""
        start_thread(self._run, "notifications-celery-main")

    def stop(self) -> None:
        """End the lease, after the tasks of this worker have ended."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        recorder().drain(DRAIN_SECONDS)
        self.lease.stop()
        recorder().call(self.lease.end, wait=DRAIN_SECONDS)

    def _run(self) -> None:
        limit_this_thread()
        while not self._stopped.is_set() and not self._try(self.lease.start, "begin the lease"):
            self._stopped.wait(1.0)
        # On a thread of its own, because it waits for the broker.
        reconcile_name = "notifications-celery-reconcile"
        start_thread(self._run_rounds, reconcile_name, "reconcile observed tasks", self._reconciler.run_round)
        self._run_rounds("run maintenance", self._maintain)

    def _run_rounds(self, what: str, function: Callable[[], object]) -> None:
        limit_this_thread()
        signal_queue.use_on_this_thread(recorder().signals)
        while not self._stopped.wait(ROUND_INTERVAL_SECONDS + random.random() * ROUND_JITTER_SECONDS):
            self._try(function, what)
        connections.close_all()

    def _maintain(self) -> None:
        streams.number_pending()
        reaping.reap_jobs(find_dead_neighbors(), expired=self.lease.may_reap())
        manual.resume_batch_cancellations()
        finishing.finish_remaining_batches()
        observed_batches.store_progress()
        if time.monotonic() > self._prune_at and is_oldest_worker(self.lease):
            self._prune_at = time.monotonic() + PRUNE_INTERVAL_SECONDS
            pruning = Pruning(times.now() - settings.RETENTION, run=retrying_atomic)
            while pruning.prune_chunk() is not None and not self._stopped.wait(0.05):
                pass
        self._fold_statistics()

    def _fold_statistics(self) -> None:
        if time.monotonic() > self._fold_at and is_oldest_worker(self.lease):
            self._fold_at = time.monotonic() + FOLD_INTERVAL_SECONDS
            while (folding.fold_chunk() or folding.delete_chunk()) and not self._stopped.wait(0.02):
                pass

    def _try(self, function: Callable[[], object], what: str) -> bool:
        try:
            check_connections()
            function()
        except DATABASE_UNAVAILABLE as exc:
            logger.warning("Could not %s of a Celery worker, which is tried again: %s", what, exc)
            connections.close_all()
            return False
        except Exception:
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
    """Choose the id of the worker, before it starts its child processes."""
    global _main
    # Child processes inherit it. Each would need a second for that in its first task.
    from notifications.jobs.engines.celery import observe  # noqa: F401

    _main = MainProcess(sender.app, sender.hostname, sorted(sender.app.amqp.queues.consume_from))


def start(**kwargs: Any) -> None:
    """Begin the lease when the worker is ready."""
    if _main:
        keep_out_of_transactions()
        configured_tasks.log_problems(_main.app.tasks)
        _main.start()


def stop(**kwargs: Any) -> None:
    """End the lease when the worker has ended its tasks."""
    if _main and _main.pid == os.getpid():
        _main.stop()


def drain(**kwargs: Any) -> None:
    """Wait, before a child process ends, until its tasks are recorded."""
    recorder().drain(DRAIN_SECONDS)
