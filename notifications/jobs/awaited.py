"""The jobs that somebody in this process waits for, and the one thread that looks for all of them.

So nobody who waits holds a database connection. The thread looks when the owner of an awaited job is rung for (the
queue, for jobs of nobody), and every few seconds in any case: a ring may be lost.
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

from django.db import InterfaceError, OperationalError

from notifications.db.deadlines import limit_this_thread
from notifications.db.threads import check_connections, close_connections, keep_connections, start_thread
from notifications.db.transactions import database
from notifications.exceptions import JobCancelled, JobDoesNotExist, JobFailed
from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

#: The doorbell's: takes a callback ``(users, queue)`` and returns a function that ends it.
Listen = Callable[[Callable[[Any, bool], None]], Callable[[], None]]

#: Seconds: the first pause between two looks that no ring asked for, and the longest. It doubles in between, because
#: other processes may not be heard yet when somebody begins to wait.
FIRST_POLL_SECONDS, MAX_POLL_SECONDS = 0.1, 5.0
#: Seconds without anybody who waits after which the thread ends.
IDLE_SECONDS = 5.0
#: Seconds without a ring after which the thread closes its connection.
CONNECTION_IDLE_SECONDS = 1.0
#: Jobs that one query asks for.
MAX_IDS_PER_QUERY = 500
DONE_STATES = (Job.State.SUCCEEDED, Job.State.FAILED, Job.State.CANCELLED)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEnd:
    """What became of a job."""

    state: str
    result: str | None
    error: str | None

    def value(self) -> Any:
        """Return what the task returned, or raise what join() raises."""
        if self.state == Job.State.CANCELLED:
            raise JobCancelled()
        if self.state == Job.State.FAILED:
            raise JobFailed(json.loads(self.error or "{}"))
        return json.loads(self.result or "null")


def read_end(id: UUID) -> JobEnd | None:
    """Return what became of a job, None while it is active. Raises ``JobDoesNotExist``."""
    rows = Job.objects.using(database()).filter(pk=id).values_list("state", "result", "error")
    for state, result, error in rows:
        return JobEnd(state=state, result=result, error=error) if state in DONE_STATES else None
    raise JobDoesNotExist(id)


@dataclass(slots=True)
class _Awaited:
    """A job for which somebody waits here. Its owner is known after the first look."""

    futures: list[Future[JobEnd]] = field(default_factory=list)
    known: bool = False
    user: Any = None


class JobWaits:
    """All who wait for jobs in this process, and the thread that looks for them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._awaited: dict[UUID, _Awaited] = {}
        self._due: set[UUID] = set()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def wait_for(self, id: UUID, listen: Listen) -> Iterator[Future[JobEnd]]:
        """Give a future of the job's end; whoever leaves the block waits no more. Raises ``NoThread``."""
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
            with self._lock:  # if it broke, the next wait starts another thread
                if self._thread is threading.current_thread():
                    self._thread = None

    def _watch_until_idle(self, listen: Listen) -> None:
        limit_this_thread()
        unsubscribe = listen(self._heard)
        pause, idle_since = FIRST_POLL_SECONDS, 0.0
        # By the clock, not after a silence: rings for others never cease on a busy site.
        all_at = time.monotonic() + pause
        try:
            while self._goes_on(idle_since):
                self._wake.clear()
                self._look()
                idle_since = 0.0 if self._awaited else idle_since or time.monotonic()
                rung = self._wake.wait(IDLE_SECONDS if idle_since else max(0.0, all_at - time.monotonic()))
                if time.monotonic() < all_at:
                    continue
                if pause >= CONNECTION_IDLE_SECONDS and not rung:
                    close_connections()
                pause = min(pause * 2, MAX_POLL_SECONDS)
                all_at = time.monotonic() + pause
                with self._lock:
                    self._due.update(self._awaited)
        finally:
            unsubscribe()
            close_connections()

    def _goes_on(self, idle_since: float) -> bool:
        with self._lock:
            if self._awaited or not idle_since or time.monotonic() - idle_since < IDLE_SECONDS:
                return True
            self._thread = None
            return False

    def _heard(self, users: Iterable[Any], queue: bool) -> None:
        # From any thread.
        with self._lock:
            due = {
                id
                for id, awaited in self._awaited.items()
                # One that was not looked at yet may be done at this moment, after the query and before its answer.
                if not awaited.known or (queue if awaited.user is None else awaited.user in users)
            }
            self._due |= due
        if due:
            self._wake.set()

    def _look(self) -> None:
        with self._lock:
            ids = [id for id in self._due if id in self._awaited]
            self._due.clear()
        for start in range(0, len(ids), MAX_IDS_PER_QUERY):
            some = ids[start : start + MAX_IDS_PER_QUERY]
            try:
                check_connections()
                ends = self._ends(some)
                keep_connections()
                check_connections()
            except (OperationalError, InterfaceError) as exc:
                logger.warning("It cannot be seen now whether %d awaited jobs are done: %s", len(some), exc)
            except Exception as exc:  # nobody else would hear of it, and those who wait would wait for ever
                self._settle(dict.fromkeys(some, exc))
            else:
                self._settle(ends)

    def _ends(self, ids: list[UUID]) -> dict[UUID, JobEnd | Exception]:
        jobs = Job.objects.using(database())
        owners, done = {}, []
        for id, user, state in jobs.filter(pk__in=ids).values_list("id", "user_id", "state"):
            owners[id] = user
            if state in DONE_STATES:
                done.append(id)
        with self._lock:
            for id, user in owners.items():
                if awaited := self._awaited.get(id):
                    awaited.user, awaited.known = user, True
        ends: dict[UUID, JobEnd | Exception] = {id: JobDoesNotExist(id) for id in ids if id not in owners}
        if done:
            rows = jobs.filter(pk__in=done, state__in=DONE_STATES).values_list(
                "id", "state", "result", "error"
            )
            for id, state, result, error in rows:
                ends[id] = JobEnd(state=state, result=result, error=error)
        return ends

    def _settle(self, ends: dict[UUID, Any]) -> None:
        with self._lock:
            settled = [(end, self._awaited.pop(id, _Awaited()).futures) for id, end in ends.items()]
        for end, futures in settled:
            for future in futures:
                if not future.set_running_or_notify_cancel():
                    continue
                if isinstance(end, Exception):
                    future.set_exception(end)
                else:
                    future.set_result(end)


waits = JobWaits()
# Its thread, and perhaps a holder of its lock, are not there in a forked process; nor are those who wait.
os.register_at_fork(after_in_child=lambda: waits.__init__())  # type: ignore[misc]
