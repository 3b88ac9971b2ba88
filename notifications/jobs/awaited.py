"""The jobs that this process waits for, and the one thread that reads their states.

Because one thread reads for all, a waiting call holds no database connection. The thread reads a job when the doorbell
rings for its owner, or for the queue if the job has no owner, and all jobs every few seconds: a ring may be lost.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from notifications.db.deadlines import limit_this_thread
from notifications.db.threads import check_connections, close_connections, keep_connections, start_thread
from notifications.db.transactions import database
from notifications.db.unavailable import UNAVAILABLE
from notifications.exceptions import JobCancelled, JobDoesNotExist, JobFailed
from notifications.models import Job
from notifications.states import DONE

logger = logging.getLogger("notifications.jobs")

#: ``doorbell.listen``: takes a callback ``(users, queue)`` and returns a function that unsubscribes it.
Listen = Callable[[Callable[[Any, bool], None]], Callable[[], None]]

#: Pauses between reads of all jobs: the first one, doubled up to the longest one. They begin short because the doorbell
#: may not yet receive the rings of other processes.
FIRST_POLL_SECONDS, MAX_POLL_SECONDS = 0.1, 5.0
#: How long the thread lives on when nothing is waited for.
IDLE_SECONDS = 5.0
#: The thread closes its connection in pauses of at least this length.
CONNECTION_IDLE_SECONDS = 1.0
MAX_IDS_PER_QUERY = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEnd:
    """The end of a job: its state and its result or error, as JSON."""

    state: str
    result: str | None
    error: str | None

    def value(self) -> Any:
        """Return what the task returned. Raises ``JobFailed`` or ``JobCancelled``."""
        if self.state == Job.State.CANCELLED:
            raise JobCancelled()
        if self.state == Job.State.FAILED:
            raise JobFailed(json.loads(self.error or "{}"))
        return json.loads(self.result or "null")


def read_end(id: UUID) -> JobEnd | None:
    """Return the end of a job, None while it is active. Raises ``JobDoesNotExist``."""
    rows = Job.objects.using(database()).filter(pk=id).values_list("state", "result", "error")
    for state, result, error in rows:
        return JobEnd(state=state, result=result, error=error) if state in DONE else None
    raise JobDoesNotExist(id)


@dataclass(slots=True)
class _Awaited:
    """A job that is waited for, with a future for each waiting call."""

    futures: list[Future[JobEnd]] = field(default_factory=list)
    #: Whether ``user`` is known: it is read with the job for the first time.
    has_user: bool = False
    user: Any = None


class JobWaits:
    """The jobs that this process waits for, and the thread that reads them while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._awaited: dict[UUID, _Awaited] = {}
        self._due: set[UUID] = set()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def wait_for(self, id: UUID, listen: Listen) -> Iterator[Future[JobEnd]]:
        """Yield a future of the job's end, which is canceled at the end of the block. Raises ``NoThread``."""
        future: Future[JobEnd] = Future()
        with self._lock:
            if self._thread is None:
                self._thread = start_thread(self._watch, "notifications-join", listen)
            self._awaited.setdefault(id, _Awaited()).futures.append(future)
            self._due.add(id)
        self._wake.set()
        try:
            yield future
        finally:
            future.cancel()
            with self._lock:
                awaited = self._awaited.get(id)
                if awaited and future in awaited.futures:
                    awaited.futures.remove(future)
                    if not awaited.futures:
                        del self._awaited[id]
                        self._wake.set()

    def _watch(self, listen: Listen) -> None:
        try:
            self._watch_until_idle(listen)
        finally:
            with self._lock:  # After an unexpected exception the next wait starts another thread.
                if self._thread is threading.current_thread():
                    self._thread = None

    def _watch_until_idle(self, listen: Listen) -> None:
        limit_this_thread()
        unsubscribe = listen(self._on_ring)
        pause, idle_since = FIRST_POLL_SECONDS, 0.0
        # A fixed time, not a pause without rings: on a busy site rings for other users never cease.
        read_all_at = time.monotonic() + pause
        try:
            while self._should_continue(idle_since):
                self._wake.clear()
                self._read_due_jobs()
                idle_since = 0.0 if self._awaited else idle_since or time.monotonic()
                was_woken = self._wake.wait(
                    IDLE_SECONDS if idle_since else max(0.0, read_all_at - time.monotonic())
                )
                if time.monotonic() < read_all_at:
                    continue
                if pause >= CONNECTION_IDLE_SECONDS and not was_woken:
                    close_connections()
                pause = min(pause * 2, MAX_POLL_SECONDS)
                read_all_at = time.monotonic() + pause
                with self._lock:
                    self._due.update(self._awaited)
        finally:
            unsubscribe()
            close_connections()

    def _should_continue(self, idle_since: float) -> bool:
        with self._lock:
            if self._awaited or not idle_since or time.monotonic() - idle_since < IDLE_SECONDS:
                return True
            self._thread = None
            return False

    def _on_ring(self, users: Iterable[Any], queue: bool) -> None:
        # Called on any thread.
        with self._lock:
            due = {
                id
                for id, awaited in self._awaited.items()
                # During the first read of a job its owner is not known, and the job may end after the snapshot.
                if not awaited.has_user or (queue if awaited.user is None else awaited.user in users)
            }
            self._due |= due
        if due:
            self._wake.set()

    def _read_due_jobs(self) -> None:
        with self._lock:
            ids = [id for id in self._due if id in self._awaited]
            self._due.clear()
        for start in range(0, len(ids), MAX_IDS_PER_QUERY):
            chunk = ids[start : start + MAX_IDS_PER_QUERY]
            try:
                check_connections()
                ends = self._read_ends(chunk)
                keep_connections()
                check_connections()
            except UNAVAILABLE as exc:
                logger.warning("Could not read %d awaited jobs: %s", len(chunk), exc)
            except Exception as exc:  # Raised in the waiting calls, which would otherwise wait forever.
                self._set_ends(dict.fromkeys(chunk, exc))
            else:
                self._set_ends(ends)

    def _read_ends(self, ids: list[UUID]) -> dict[UUID, JobEnd | Exception]:
        jobs = Job.objects.using(database())
        owners, done = {}, []
        for id, user, state in jobs.filter(pk__in=ids).values_list("id", "user_id", "state"):
            owners[id] = user
            if state in DONE:
                done.append(id)
        with self._lock:
            for id, user in owners.items():
                if awaited := self._awaited.get(id):
                    awaited.user, awaited.has_user = user, True
        ends: dict[UUID, JobEnd | Exception] = {id: JobDoesNotExist(id) for id in ids if id not in owners}
        if done:
            rows = jobs.filter(pk__in=done, state__in=DONE).values_list("id", "state", "result", "error")
            for id, state, result, error in rows:
                ends[id] = JobEnd(state=state, result=result, error=error)
        return ends

    def _set_ends(self, ends: dict[UUID, Any]) -> None:
        with self._lock:
            ended = [(end, self._awaited.pop(id, _Awaited()).futures) for id, end in ends.items()]
        for end, futures in ended:
            for future in futures:
                if not future.set_running_or_notify_cancel():
                    continue
                if isinstance(end, Exception):
                    future.set_exception(end)
                else:
                    future.set_result(end)


waits = JobWaits()
# A forked process has neither the thread nor the waiting calls, and the lock may have been held at the fork.
os.register_at_fork(after_in_child=lambda: waits.__init__())  # type: ignore[misc]
