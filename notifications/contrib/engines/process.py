"""Run jobs in a process of an engine.

Each such process has one worker: a thread with an event loop, a lease and a connection of its own, like the embedded
worker. It runs the jobs that callers of ``run()`` are given by the engine. So a job has the same claim, fence, timeout,
progress and outcome whichever engine runs it, and all async jobs of a process share one event loop.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from uuid import UUID

from django.db import connections

from notifications.contrib.engines import dispatch_loop, dispatching, senders
from notifications.contrib.engines.dispatched_jobs import DispatchedJobEnd, WaitFor
from notifications.contrib.engines.worker import EngineWorker
from notifications.db.threads import start_thread
from notifications.db.unavailable import QUERY_ERRORS
from notifications.realtime import doorbell

logger = logging.getLogger("notifications.jobs")

#: Seconds beyond the grace period that ``stop()`` waits for the end of the worker.
STOP_MARGIN_SECONDS = 5.0

_lock = threading.Lock()
_worker: EngineWorker | None = None
_thread: threading.Thread | None = None
_is_stopping = False
_is_exit_registered = False
#: Whether this process is a fork of one that had loaded the app.
_is_fork = False
#: How often ``run_in_unknown_process()`` was called in this process.
_calls = 0


def run(id: UUID | str, *, engine: str, wait_for: WaitFor = WaitFor.RECORD) -> DispatchedJobEnd:
    """Run one job and return when its attempt is recorded, or why the caller need not wait for that.

    ``id`` of a job that may not run now has no effect, however often it comes. ``engine`` is the name of the engine,
    which the list of workers shows. ``wait_for`` says to return earlier, in a process that lasts and that calls
    ``stop()`` before it exits.
    """
    id = id if isinstance(id, UUID) else UUID(id)
    end = DispatchedJobEnd.STOPPED if _is_stopping else start(engine).run_dispatched_job(id, wait_for)
    if end == DispatchedJobEnd.STOPPED:
        _take_back(id)
    return end


def run_in_unknown_process(id: UUID | str, *, engine: str) -> DispatchedJobEnd:
    """Run one job in a process of which it is not known whether it lasts. Returns what ``run()`` returns.

    An engine may fork a process for each job, and end it with ``os._exit()`` when this returns. The first call in a
    fork therefore waits for the job's end even while the job waits for others, ends the worker, whose row would stay
    until its lease is over, and sends what this process has not sent yet. A second call shows that the process lasts.
    """
    global _calls
    with _lock:
        _calls += 1
        is_exit_likely = _is_fork and _calls == 1
    if not is_exit_likely:
        return run(id, engine=engine)
    end = run(id, engine=engine, wait_for=WaitFor.RECORD_BEFORE_EXIT)
    # Not after an exception, such as a time limit of the engine: the job counts as lost with its process.
    if _calls == 1:
        _prepare_exit()
    return end


def _prepare_exit() -> None:
    """Do what ``os._exit()`` skips. Later calls start another worker."""
    global _worker, _is_stopping
    stop(0)
    with _lock:
        _worker, _is_stopping = None, False
    senders.wait_for_senders()
    doorbell.flush()


def start(engine: str, *, concurrency: int = 1) -> EngineWorker:
    """Start the worker of this process, once, and return it. Raises ``NoThread``.

    ``concurrency`` is how many jobs the engine runs in this process at once.
    """
    global _worker, _thread, _is_exit_registered
    with _lock:
        if not _is_exit_registered:
            atexit.register(stop, 0)
            _is_exit_registered = True
        if _worker is None or not (_thread and _thread.is_alive()):
            worker = EngineWorker(
                listen=doorbell.listen,
                concurrency=concurrency,
                engine=engine,
                dispatch=dispatch_loop.run_round,
            )
            is_running = threading.Event()
            _thread = start_thread(_run, "notifications-worker", worker, is_running)
            is_running.wait()
            _worker = worker
        return _worker


def stop(grace: float) -> None:
    """Stop the worker of this process within ``grace`` seconds, and queue again what still runs then.

    Later calls of ``run()`` leave their jobs to other processes.
    """
    global _is_stopping
    _is_stopping = True
    worker, thread = _worker, _thread
    if worker and thread and thread.is_alive():
        worker.stop(grace)
        thread.join(grace + STOP_MARGIN_SECONDS)


def _take_back(id: UUID) -> None:
    """Have another process given a job that this one did not claim, sooner than a lost id."""
    try:
        dispatching.take_back([id])
    except QUERY_ERRORS as exc:
        logger.warning("Could not hand a job back, which is dispatched again later: %s: %s", id, exc)


def _run(worker: EngineWorker, is_running: threading.Event) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(worker.run())
        await asyncio.sleep(0)  # the worker has its event loop
        is_running.set()
        await task

    try:
        asyncio.run(main())
    except BaseException:
        logger.exception("The worker of an engine's process failed; the next job starts a new one")
    finally:
        is_running.set()
        connections.close_all()


def _after_fork() -> None:
    global _lock, _worker, _thread, _is_stopping, _is_fork, _calls
    # A child has none of the parent's threads. One that a job forks starts no worker, because it calls no run().
    _lock, _worker, _thread, _is_stopping = threading.Lock(), None, None, False
    _is_fork, _calls = True, 0


os.register_at_fork(after_in_child=_after_fork)
