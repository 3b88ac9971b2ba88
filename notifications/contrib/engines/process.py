"""Run jobs in a process of an engine.

Such a process has a worker while it works, with a lease and connections of its own, like the embedded worker. So a job
has the same claim, fence, timeout, progress and outcome whichever engine wakes the process. All async jobs of a process
share one event loop, which outlasts its workers.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from concurrent import futures

from django.core.exceptions import ImproperlyConfigured

from notifications.conf import settings
from notifications.contrib.engines import engine_of, wakeups
from notifications.contrib.engines.worker import EngineWorker, MessageSlot
from notifications.realtime import flush, listen

logger = logging.getLogger("notifications.jobs")

#: Seconds beyond the grace period that ``stop()`` waits for the end of the worker.
STOP_MARGIN_SECONDS = 5.0

_lock = threading.Lock()
_worker: EngineWorker | None = None
#: Done when the worker has ended.
_end: futures.Future[None] | None = None
_is_stopping = False
#: Whether this process is a fork of one that had loaded the app.
_is_fork = False
#: How many messages the engine takes in this process at once.
_concurrency = 1
#: Whether this process is there for jobs only, and its parent starts another one when it has exited.
_exits_when_stuck = False
#: How often ``run_in_unknown_process()`` was called in this process.
_calls = 0


def configure(*, concurrency: int = 1, exits_when_stuck: bool = False) -> None:
    """Say what kind of process this is, where an engine knows that.

    ``concurrency``
        How many messages the engine takes in this process at once.
    ``exits_when_stuck``
        The process exits when no thread of it has run for a lease's time, because another one is started then.
    """
    global _concurrency, _exits_when_stuck
    _concurrency, _exits_when_stuck = concurrency, exits_when_stuck


def run_waiting(queue: str, *, backend: str = "default") -> None:
    """Run jobs of a queue, one sync job after another, and return when the engine may use this process for others.

    That is when nothing is left that may run, or after 100 jobs or 10 s. Async jobs run beside them, and go on when
    this has returned: call ``stop()`` before the process exits.

    ``backend``
        The alias of the backend in ``TASKS``. It has no effect for one without an engine.
    """
    try:
        engine = engine_of(backend)
    except ImproperlyConfigured as exc:
        logger.error("Could not run jobs of backend %s: %s", backend, exc)
        return
    slot = MessageSlot((backend, queue))
    while engine and not _is_stopping and not _start(engine.process_name).run_slot(slot):
        pass  # it has just ended, because it was idle


def run_in_unknown_process(queue: str, *, backend: str) -> None:
    """Call ``run_waiting()`` in a process of which it is not known whether it lasts.

    An engine may fork a process for each message, and end it with ``os._exit()`` when this returns. The first call in a
    fork therefore waits for all jobs, ends the worker, whose row would stay until its lease is over, and sends what
    this process has not sent yet. A second call shows that the process lasts.
    """
    global _calls
    with _lock:
        _calls += 1
        is_exit_likely = _is_fork and _calls == 1
    run_waiting(queue, backend=backend)
    # Not after an exception, such as a time limit of the engine: the jobs count as lost with their process.
    if is_exit_likely and _calls == 1:
        if _worker and _end:
            _worker.close()
            _end.result()
        wakeups.wait_for_senders()
        flush()


def stop(grace: float) -> None:
    """Stop the worker of this process within ``grace`` seconds, and queue again what still runs then.

    Later calls of ``run_waiting()`` leave their jobs to other processes.
    """
    global _is_stopping
    _is_stopping = True
    if _worker and _end and not _end.done():
        _worker.stop(grace)
        futures.wait([_end], grace + STOP_MARGIN_SECONDS)
    EngineWorker.stop_loop(STOP_MARGIN_SECONDS)


def _start(engine: str) -> EngineWorker:
    """Start a worker in this process, unless one works, and return it. Raises ``NoThread``."""
    global _worker, _end
    with _lock:
        if _worker is None or _worker.has_ended:
            worker = EngineWorker(listen=listen, concurrency=_concurrency, engine=engine)
            worker.exit_seconds = settings.LEASE if _exits_when_stuck else None
            _end = worker.start()
            _worker = worker
        return _worker


def _after_fork() -> None:
    global _lock, _worker, _end, _is_stopping, _is_fork, _calls
    # A child has none of the parent's threads. One that a job forks calls no run_waiting(), and starts no worker.
    _lock, _worker, _end, _is_stopping = threading.Lock(), None, None, False
    _is_fork, _calls = True, 0


os.register_at_fork(after_in_child=_after_fork)
atexit.register(stop, 0)
