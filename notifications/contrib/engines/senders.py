"""Send the ids of committed jobs to their engines, on one thread of this process for each engine."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from notifications.compat import is_test_runner
from notifications.contrib.engines import dispatching, engine_of
from notifications.contrib.engines.interface import DispatchedJob, JobsRefused, dispatched_job
from notifications.db.supervised import SupervisedThread
from notifications.db.threads import NoThread, check_connections
from notifications.db.transactions import chunks, on_commit_merged
from notifications.jobs.claiming.executors import DISPATCHED, ENGINE, ENGINE_SENDER, SENDER_EXECUTORS
from notifications.jobs.claiming.queues import queue_limits
from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

#: Seconds that the exit of a process waits until ids are sent.
EXIT_TIMEOUT_SECONDS = 2.0
#: Ids that one call of an engine gets at most.
MAX_JOBS_PER_CALL = 100
#: Ids that wait for a sender at most. More are left to the ``DispatchLoop``.
MAX_UNSENT_IDS = 50_000

#: Whether ids are sent under a test runner too.
enabled_in_tests = False


def prepare(job: Job) -> None:
    """Choose the executor of a new job of an engine: DISPATCHED at its commit, unless something may hold it back."""
    if job.executor in SENDER_EXECUTORS:
        job.executor = ENGINE_SENDER
    elif job.run_after or job.concurrency_key or job.queue_name in queue_limits():
        job.executor = ENGINE
    else:
        dispatching.set_dispatched(job)


def send_after_commit(jobs: Iterable[Job]) -> None:
    """Send the ids of new jobs that are DISPATCHED after the commit of the current transaction."""
    if dispatched := [job for job in jobs if job.executor == DISPATCHED]:
        on_commit_merged(
            "dispatched", dispatched, lambda groups: send([job for group in groups for job in group])
        )


def send(jobs: Sequence[Job]) -> None:
    """Send the ids of committed jobs, in the background."""
    if is_test_runner() and not enabled_in_tests:
        return
    by_alias: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        by_alias[job.backend].append(job)
    for alias, of_engine in by_alias.items():
        _sender(alias).add(of_engine)


def revoke(jobs: Iterable[Job]) -> None:
    """Have the engines drop cancelled jobs, in the background."""
    if is_test_runner() and not enabled_in_tests:
        return
    for job in jobs:
        _sender(job.backend).add([job], is_revoked=True)


def unreachable_backends() -> set[str]:
    """Return the aliases of the backends whose engines did not answer this process when it called them last."""
    return {alias for alias, sender in list(_senders.items()) if sender.is_unreachable}


class _Sender:
    """Calls one engine on a thread of its own, which ends when it is idle.

    When the engine cannot be reached, all jobs that wait are left to the ``DispatchLoop``: one call after another that
    waits for its timeout would keep new jobs waiting long after the engine is back.
    """

    IDLE_SECONDS = 10.0

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._items: queue.SimpleQueue[tuple[bool, DispatchedJob]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread = SupervisedThread(
            f"notifications-engine-{alias}", self._send_group, idle_seconds=lambda: self.IDLE_SECONDS
        )
        #: Jobs that wait, or with which the engine is being called.
        self._unsent = 0
        #: Whether the last call did not reach the engine.
        self.is_unreachable = False
        self._has_warned = False

    def add(self, jobs: Sequence[Job], *, is_revoked: bool = False) -> None:
        dispatched = [dispatched_job(job) for job in jobs[: max(MAX_UNSENT_IDS - self._items.qsize(), 0)]]
        with self._lock:
            for job in dispatched:
                self._items.put((is_revoked, job))
            self._unsent += len(dispatched)
        try:
            self._thread.wake()
        except NoThread as exc:
            logger.warning("Could not send jobs to their engine, which is tried again: %s", exc)

    def wait_until_idle(self, deadline: float) -> None:
        """Wait until all ids are sent, or until the deadline (monotonic)."""
        while self._unsent and self._thread.is_running and time.monotonic() < deadline:
            time.sleep(0.01)

    def _send_group(self) -> float | None:
        group = self._take(MAX_JOBS_PER_CALL)
        if not group:
            return None
        dispatched = [job for is_revoked, job in group if not is_revoked]
        try:
            self._call("dispatch", dispatched)
            dispatched = []
            self._call("revoke", [job for is_revoked, job in group if is_revoked])
        except Exception as exc:
            self.is_unreachable = True
            self._warn(len(group), exc)
            waiting = self._take(MAX_UNSENT_IDS)
            group += waiting
            self._postpone([*dispatched, *(job for is_revoked, job in waiting if not is_revoked)])
        with self._lock:
            self._unsent -= len(group)
        return 0.0

    def _call(self, verb: str, jobs: list[DispatchedJob]) -> None:
        """Call the engine. Raises what it raises if it cannot be reached."""
        if not jobs:
            return
        refused: JobsRefused | None = None
        try:
            if engine := engine_of(self._alias):
                getattr(engine, verb)(jobs)
        except JobsRefused as exc:
            refused = exc
        except Exception:
            raise
        except BaseException as exc:  # the client of a broker may raise anything
            raise RuntimeError(f"The engine raised {exc!r}.") from exc
        if self.is_unreachable:
            logger.info("The engine can be reached again: backend %s", self._alias)
        self.is_unreachable = False
        if refused:
            self._warn(len(jobs), refused)
        else:
            self._has_warned = False

    def _warn(self, jobs: int, exc: Exception) -> None:
        """Log a failure, and no further one until a call succeeds."""
        if not self._has_warned:
            logger.warning(
                "Could not dispatch jobs to their engine, which is tried again: backend %s, %d jobs: %r",
                self._alias,
                jobs,
                exc,
            )
        self._has_warned = True

    def _take(self, limit: int) -> list[tuple[bool, DispatchedJob]]:
        taken: list[tuple[bool, DispatchedJob]] = []
        with contextlib.suppress(queue.Empty):
            while len(taken) < limit:
                taken.append(self._items.get_nowait())
        return taken

    def _postpone(self, jobs: Sequence[DispatchedJob]) -> None:
        """Have jobs that were not sent dispatched again soon."""
        try:
            check_connections()
            for chunk in chunks(jobs, MAX_JOBS_PER_CALL):
                dispatching.postpone_unsent(chunk)
        except Exception as exc:  # also after an exception of the engine that a thread must survive
            logger.warning(
                "Could not postpone jobs that were not sent, which wait for their interval: %r", exc
            )


_senders: dict[str, _Sender] = {}
_senders_lock = threading.Lock()


def _sender(alias: str) -> _Sender:
    with _senders_lock:
        if not _senders:
            atexit.register(wait_for_senders)
        if alias not in _senders:
            _senders[alias] = _Sender(alias)
        return _senders[alias]


def wait_for_senders() -> None:
    """Wait until the ids that this process sends are sent, for at most ``EXIT_TIMEOUT_SECONDS``."""
    deadline = time.monotonic() + EXIT_TIMEOUT_SECONDS
    for sender in list(_senders.values()):
        sender.wait_until_idle(deadline)


def _after_fork() -> None:
    global _senders_lock
    _senders_lock = threading.Lock()
    _senders.clear()  # the child has none of their threads, and their ids are the parent's to send


os.register_at_fork(after_in_child=_after_fork)
