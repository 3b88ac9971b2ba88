"""Wake-ups: how processes of engines learn that their backend has jobs.

A message says that a queue of a backend has something to do, not which job. The process that gets it claims the jobs
that may run, as the built-in worker does, until nothing is left. So order, limits, pauses and quarantine are those of
every claim, and a message that is lost, doubled, late or reordered costs time only: each second one process sends
others for the queues in which jobs have been due for a while.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

from notifications.compat import is_test_runner
from notifications.contrib.engines import engine_of
from notifications.contrib.engines.interface import Engine
from notifications.db import database, database_now
from notifications.db.transactions import on_commit_merged
from notifications.extension import Duty
from notifications.jobs import aliases_with_engines
from notifications.models import Job
from notifications.realtime import WaitingQueues
from notifications.worker import NoThread, SupervisedThread, check_connections

logger = logging.getLogger("notifications.jobs")

#: Messages for one queue that are sent at once: the first time, and while its jobs are claimed. Then one at a time.
MAX_MESSAGES, MAX_REPEATED_MESSAGES = 100, 10
#: Seconds after which an engine may drop a message. A worker whose clock is ahead by more drops all.
MESSAGE_SECONDS = 60.0
#: Seconds between two searches for waiting jobs, and after which a job is one that waits.
SEARCH_INTERVAL_SECONDS, MIN_WAIT_SECONDS = 1.0, 2.0
#: Seconds between two messages for a queue from which nothing is claimed, at most; they begin at ``MIN_WAIT_SECONDS``.
MAX_INTERVAL_SECONDS = 60.0
#: Seconds between two calls of an engine that did not answer.
RETRY_SECONDS = 5.0
#: Seconds that the exit of a process waits until its messages are sent.
EXIT_TIMEOUT_SECONDS = 2.0
#: Running jobs, and jobs that ended last, among which those of a queue are searched.
MAX_CLAIMS_READ = 1_000

#: An alias in ``TASKS``, and one of its queues.
BackendQueue = tuple[str, str]

#: Whether messages are sent under a test runner too.
enabled_in_tests = False


def wake_after_commit(jobs: Iterable[Job]) -> None:
    """Send messages for queued jobs after the commit of the current transaction, but for scheduled ones."""
    aliases = aliases_with_engines()
    if not aliases:
        return
    if due := [
        (job.backend, job.queue_name)
        for job in jobs
        if job.backend in aliases and getattr(job, "due_at", None) is None
    ]:
        on_commit_merged(
            "wakeups", due, lambda groups: send(Counter(queue for group in groups for queue in group))
        )


def wake_for_queue(name: str) -> None:
    """Send messages for the jobs of a queue that may begin now."""
    if aliases := aliases_with_engines():
        waiting = WaitingQueues(aliases, 0, MAX_MESSAGES, (name,)).read()
        send(Counter({queue: found.jobs for queue, found in waiting.items()}))


def send(counts: Counter[BackendQueue]) -> None:
    """Send so many messages for each queue, in the background."""
    if is_test_runner() and not enabled_in_tests:
        return
    for (alias, queue), count in counts.items():
        _sender(alias).add(queue, count)


def list_duties() -> list[Duty]:
    """Return the one duty of engines: see ``wake_for_waiting_jobs()``."""
    if not aliases_with_engines():
        return []

    def run() -> None:
        wake_for_waiting_jobs(duty.previous_run)

    name, condition = "wake engines for waiting jobs", lambda: _waiting_queues().condition()
    duty = Duty(name, SEARCH_INTERVAL_SECONDS, run, condition=condition)
    return [duty]


def _waiting_queues() -> WaitingQueues:
    return WaitingQueues(aliases_with_engines(), MIN_WAIT_SECONDS, MAX_MESSAGES)


def wake_for_waiting_jobs(last_run: datetime | None = None) -> None:
    """Send messages for queues of engines in which jobs have been due for ``MIN_WAIT_SECONDS``.

    For a queue from which nothing is claimed it sends one each time, twice as late as before, up to
    ``MAX_INTERVAL_SECONDS``. When that is follows from how long nothing was claimed, so that it does not matter which
    process does it. ``last_run`` is when one did it last, None to send for each queue now.
    """
    waiting = _waiting_queues().read()
    if not waiting:
        return
    now = database_now()
    elapsed = (now - last_run).total_seconds() if last_run else math.inf
    claimed = {} if math.isinf(elapsed) else _read_last_claims(now)
    counts: Counter[BackendQueue] = Counter()
    for queue, (count, since) in waiting.items():
        last_claim = claimed.get(queue)
        quiet = (now - max(filter(None, (since, last_claim)))).total_seconds()
        counts[queue] = _number_of_messages(count, quiet, elapsed, is_claimed=last_claim is not None)
    send(+counts)


def _number_of_messages(jobs: int, quiet: float, elapsed: float, *, is_claimed: bool) -> int:
    """Return how many messages are sent for a queue from which nothing was claimed for ``quiet`` seconds.

    ``elapsed`` seconds ago that was decided last. ``is_claimed``: something was claimed within the last minute.
    """
    before = quiet - elapsed
    if elapsed > MAX_INTERVAL_SECONDS / 2:  # no process was there that could
        return min(jobs, MAX_MESSAGES)
    if is_claimed and quiet < 2 * MIN_WAIT_SECONDS:
        return min(jobs, MAX_REPEATED_MESSAGES)
    if _step_of(before) == _step_of(quiet):
        return 0
    if is_claimed:  # its processes are there, and a broker may lose nine of ten messages
        return 2 * MAX_REPEATED_MESSAGES
    return min(jobs, MAX_MESSAGES) if before < MIN_WAIT_SECONDS else 1


def _step_of(seconds: float) -> int:
    """Return how many messages, one at a time, a queue was sent that has been quiet for so long."""
    if seconds < MIN_WAIT_SECONDS:
        return 0
    if seconds < MAX_INTERVAL_SECONDS:
        return 1 + int(math.log2(seconds / MIN_WAIT_SECONDS))
    return 100 + int(seconds / MAX_INTERVAL_SECONDS)


def _read_last_claims(now: datetime) -> dict[BackendQueue, datetime]:
    """Return when a job of each queue was last claimed, of the queues where that was within the last minute."""
    jobs = Job.objects.using(database())
    since = now - timedelta(seconds=MAX_INTERVAL_SECONDS)
    # The orders of the indexes of running and of finished jobs.
    running = jobs.filter(state=Job.State.RUNNING, worker__isnull=False, started_at__gte=since)
    ended = jobs.filter(finished_at__gte=since, started_at__gte=since).order_by("-finished_at")
    found: dict[BackendQueue, datetime] = {}
    for rows in (running.order_by("worker", "id"), ended):
        for backend, name, moment in rows.values_list("backend", "queue_name", "started_at")[
            :MAX_CLAIMS_READ
        ]:
            found[backend, name] = max(moment, found.get((backend, name), moment))
    return found


class _Sender:
    """Calls one engine on a thread of its own, which ends when it is idle.

    What cannot be sent is dropped, but for one message for each queue, which is tried again.
    """

    IDLE_SECONDS = 10.0

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._is_sending = False
        #: When queues are tried again for which the engine could not be called: one of them must not stop the others.
        self._retry_at: dict[str, float] = {}
        self._thread = SupervisedThread(
            f"notifications-engine-{alias}", self._send, idle_seconds=lambda: self.IDLE_SECONDS
        )

    def add(self, queue: str, count: int) -> None:
        with self._lock:
            if queue not in self._retry_at:
                self._counts[queue] = min(self._counts[queue] + count, MAX_MESSAGES)
        try:
            self._thread.wake()
        except NoThread as exc:
            logger.warning("Could not wake an engine, which is tried again: %s", exc)

    def wait_until_idle(self, deadline: float) -> None:
        """Wait until each message is sent, or is to be tried again, or until the deadline (monotonic)."""
        while (self._counts or self._is_sending) and self._thread.is_running and time.monotonic() < deadline:
            time.sleep(0.01)

    def _send(self) -> float | None:
        with self._lock:
            counts, self._counts = self._counts, Counter()
            counts.update(queue for queue, at in self._retry_at.items() if at <= time.monotonic())
            self._is_sending = bool(counts)
        try:
            if counts and (engine := engine_of(self._alias)):
                for queue, count in counts.items():
                    self._wake(engine, queue, count)
        finally:
            self._is_sending = False
        return RETRY_SECONDS if self._retry_at else None

    def _wake(self, engine: Engine, queue: str, count: int) -> None:
        try:
            check_connections()  # a backend may store its tasks in a database
            engine.wake(queue, count, expires=MESSAGE_SECONDS)
        except BaseException as exc:  # the client of a broker may raise anything
            if not self._retry_at:
                logger.warning(
                    "Could not wake an engine, which is tried again: backend %s, queue %s: %r",
                    self._alias,
                    queue,
                    exc,
                )
            self._retry_at[queue] = time.monotonic() + RETRY_SECONDS
        else:
            if self._retry_at.pop(queue, None) and not self._retry_at:
                logger.info("The engine can be reached again: backend %s", self._alias)


_senders: dict[str, _Sender] = {}
_senders_lock = threading.Lock()


def _sender(alias: str) -> _Sender:
    with _senders_lock:
        if alias not in _senders:
            _senders[alias] = _Sender(alias)
        return _senders[alias]


def wait_for_senders() -> None:
    """Wait until the messages of this process are sent, for at most ``EXIT_TIMEOUT_SECONDS``."""
    deadline = time.monotonic() + EXIT_TIMEOUT_SECONDS
    for sender in list(_senders.values()):
        sender.wait_until_idle(deadline)


def _after_fork() -> None:
    global _senders_lock
    _senders_lock = threading.Lock()
    _senders.clear()  # the child has none of their threads, and their messages are the parent's to send


os.register_at_fork(after_in_child=_after_fork)
atexit.register(wait_for_senders)
