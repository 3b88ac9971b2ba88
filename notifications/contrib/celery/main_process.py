"""The main process of a Celery worker: the lease of its row, and what it does for all jobs and streams."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from celery.concurrency import get_implementation

from notifications.contrib.celery.engine import ROW_PREFIX
from notifications.db import dialect
from notifications.extension import Upkeep, Where
from notifications.worker import Lease, SignalQueue, SupervisedThread

#: Seconds between two rounds.
ROUND_INTERVAL_SECONDS = 1.0
#: Seconds that a duty may take in one round.
MAX_DUTY_SECONDS = 1.0
#: Seconds that the end of the process waits for a round, and a round for code of the project.
END_TIMEOUT_SECONDS, PROJECT_TIMEOUT_SECONDS = 5.0, 2.0


class MainProcess(SupervisedThread):
    """The row of a Celery worker, and its duties, from ``wake()`` to ``stop()``.

    The row says which queues the worker takes. Its ``concurrency`` is 0: the jobs are claimed by other workers, which
    this process or its children have while there are jobs.
    """

    def __init__(self, queues: Sequence[str]) -> None:
        super().__init__("notifications-celery-main", self._run_round, session=self._enter)
        self.pid = os.getpid()
        self.lease = Lease(queues=[f"{ROW_PREFIX}{name}" for name in queues], concurrency=0, load=lambda: 0)
        self._has_lease = False
        #: The same after an error, or a duty that fails would always be the first one, and no other one be run.
        self._upkeep: Upkeep | None = None

    @contextmanager
    def _enter(self) -> Iterator[None]:
        signals = SignalQueue()
        signals.use_on_this_thread()
        try:
            yield
        finally:
            signals.wait(PROJECT_TIMEOUT_SECONDS)
            signals.end()

    def run(self) -> None:
        """Run rounds until ``stop()``, which may come in a pause after an error, and end the lease."""
        super().run()
        if self._upkeep:
            self._upkeep.project_threads.end(PROJECT_TIMEOUT_SECONDS)
        self.lease.end()

    def _run_round(self) -> float:
        """Run a round, and return the seconds until the next one."""
        if not self._has_lease:
            self.lease.start()
            self._has_lease = True
        if self._upkeep is None:
            self._upkeep = Upkeep(Where.ENGINE, seconds=MAX_DUTY_SECONDS, may_reap=self.lease.may_reap)
        self._upkeep.run_round()
        return ROUND_INTERVAL_SECONDS


_main: MainProcess | None = None


def prepare(sender: Any = None, **kwargs: Any) -> None:
    """Read which queues the worker takes, before it starts its child processes.

    Refuses to start them on SQLite: a child that is forked while another thread of this process is inside SQLite has
    copies of its locks that are never released, and waits for them for ever.
    """
    global _main
    if dialect().runs_in_process and "prefork" in get_implementation(sender.pool_cls).__module__:
        raise SystemExit(  # Celery logs any other exception of a receiver, and goes on
            "Celery's pool prefork does not work with SQLite. Start the worker with --pool threads, or use PostgreSQL."
        )
    _main = MainProcess(sorted(sender.app.amqp.queues.consume_from))


def start(**kwargs: Any) -> None:
    """Begin the lease and the rounds when the worker is ready."""
    if _main:
        _main.wake()


def stop(**kwargs: Any) -> None:
    """End the lease when the worker has ended its tasks."""
    if _main and _main.pid == os.getpid():
        _main.stop(END_TIMEOUT_SECONDS)
