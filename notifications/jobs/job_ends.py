"""Read the ends of the jobs for which ``join()`` waits, on one thread of the process.

Because one thread reads for all, a waiting call holds no database connection. The thread reads a job when the doorbell
rings for its owner, or for the queue if the job has no owner, and all jobs every few seconds: a ring may be lost.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from notifications.db.supervised import SupervisedThread
from notifications.db.thread_connections import check_connections, close_connections
from notifications.db.threads import NoThread
from notifications.db.transactions import chunks, database
from notifications.db.unavailable import UNAVAILABLE
from notifications.exceptions import JobCancelled, JobDoesNotExist, JobFailed
from notifications.models import Job
from notifications.states import DONE

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
    futures: list[Future[JobEnd]] = field(default_factory=list)
    #: Whether ``user`` is known: it is read with the job for the first time.
    has_user: bool = False
    user: Any = None


class JobEndReader:
    """The jobs that this process waits for, and the thread that reads them while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._awaited: dict[UUID, _Awaited] = {}
        self._due: set[UUID] = set()
        self._listen: Listen | None = None
        self._thread = SupervisedThread(
            "notifications-join",
            self._read_and_wait,
            session=self._subscription,
            idle_seconds=lambda: IDLE_SECONDS,
        )

    @contextmanager
    def wait_for(self, id: UUID, listen: Listen) -> Iterator[Future[JobEnd]]:
        """Yield a future of the job's end, which is cancelled at the end of the block. Raises ``NoThread``."""
        future: Future[JobEnd] = Future()
        with self._lock:
            self._listen = listen
            self._awaited.setdefault(id, _Awaited()).futures.append(future)
            self._due.add(id)
        try:
            self._thread.wake()
            yield future
        finally:
            future.cancel()
            with self._lock:
                awaited = self._awaited.get(id)
                is_last = bool(awaited and awaited.futures == [future])
                if is_last:
                    del self._awaited[id]
                elif awaited and future in awaited.futures:
                    awaited.futures.remove(future)
            if is_last and self._thread.is_running:
                with suppress(NoThread):  # it has ended meanwhile
                    self._thread.wake()

    @contextmanager
    def _subscription(self) -> Iterator[None]:
        assert self._listen is not None
        unsubscribe = self._listen(self._on_ring)
        self._poll_seconds = FIRST_POLL_SECONDS
        # A fixed time, not a pause without rings: on a busy site rings for other users never cease.
        self._read_all_at = time.monotonic() + self._poll_seconds
        try:
            yield
        finally:
            unsubscribe()

    def _read_and_wait(self) -> float | None:
        """Read the jobs that are due. Return the seconds until all are, None if none is waited for."""
        with self._lock:
            was_rung = bool(self._due)
            is_poll = time.monotonic() >= self._read_all_at
            if is_poll:
                self._due.update(self._awaited)
        self._read_due_jobs()
        if is_poll:
            self._poll_seconds = min(self._poll_seconds * 2, MAX_POLL_SECONDS)
            self._read_all_at = time.monotonic() + self._poll_seconds
        if is_poll and not was_rung and self._poll_seconds > CONNECTION_IDLE_SECONDS:
            close_connections()
        return max(0.0, self._read_all_at - time.monotonic()) if self._awaited else None

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
            self._thread.wake()

    def _read_due_jobs(self) -> None:
        with self._lock:
            ids = [id for id in self._due if id in self._awaited]
            self._due.clear()
        for chunk in chunks(ids, MAX_IDS_PER_QUERY):
            try:
                check_connections()
                ends = self._read_ends(chunk)
                check_connections(keep=True)
            except UNAVAILABLE:
                with self._lock:
                    self._due |= set(ids)
                raise  # the thread begins anew
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


end_reader = JobEndReader()
# A forked process has neither the thread nor the waiting calls, and the lock may have been held at the fork.
os.register_at_fork(after_in_child=lambda: end_reader.__init__())  # type: ignore[misc]
