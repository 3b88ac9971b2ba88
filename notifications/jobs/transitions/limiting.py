"""Jobs that wait for the limit of a key, which an extension counts: only a claim takes from it.

A claim that meets a job whose limit is closed has it wait: it sets ``due_at``, so that claims do not see the job, and
gives it a turn in the line of its key and queue. When the limit opens, the first jobs of each line join the queue, as
many as may start, and the claim of these takes from the limit. A job that comes while others wait in its line waits
too.

That a job waits is a hint: nothing is counted by it, and a wrong one costs time only. Each process ends the hints of
keys and tasks that its code does not limit. What no process opens joins the queue at its ``due_at``, as a scheduled job
does.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from notifications import times
from notifications.db.bulk import instances, lock_query, lock_sql, update_rows
from notifications.db.clock import database_now, database_now_sql
from notifications.db.sqlstates import is_missing
from notifications.db.transactions import connection, database, fair_atomic, retrying_atomic
from notifications.db.unavailable import is_unavailable
from notifications.extension import LimitState, hooks
from notifications.jobs.claiming.sources import read_moment
from notifications.jobs.declaring.limit_keys import has_limit_key
from notifications.jobs.limit_lines import IN_TURN, Line, jobs_in_line, line_of, next_turns, read_lines
from notifications.jobs.results import find_task
from notifications.jobs.transitions.conditional_updates import max_rows, ring_queued, update_locked_rows
from notifications.jobs.turns import next_places
from notifications.models import Job, LimitedQueue

logger = logging.getLogger("notifications.jobs")

#: After which time a job that waits joins the queue although nothing has opened its limit.
MAX_WAIT = timedelta(hours=1)
#: Seconds until jobs are looked at again whose limits could not be read.
FAILURE_PAUSE_SECONDS = 5.0
#: Seconds for which the start of a job is counted by its limit. One that comes later goes back to the queue.
START_VALID_SECONDS = 1.0
#: Lines that one transaction opens, and that one round compares with what the code limits.
MAX_OPENED, MAX_CHECKED = 20, 200
#: Seconds between two checks of all lines, or 100 times as many as one takes.
CHECK_INTERVAL_SECONDS = 5.0
#: Jobs of a line that are read beside those that may start: one of them may have no limit any more.
MAX_READ_AHEAD = 10


def is_limited(job: Any) -> bool:
    """Return whether the code of this process limits the starts of a job's task, which it may import."""
    return bool(job.limit_key) and not _ignores_limits.get() and _has_limit(job.task_path)


def _has_limit(path: str, *, if_unknown: bool = False) -> bool:
    try:
        return has_limit_key(find_task(path).func)
    except ImportError:
        return if_unknown


def _has_limit_if_imported(path: str) -> bool:
    module = path.rpartition(".")[0]
    return module not in sys.modules or _has_limit(path, if_unknown=True)


_ignores_limits: ContextVar[bool] = ContextVar("notifications_ignores_limits", default=False)


@contextmanager
def without_limits() -> Iterator[None]:
    """Claim jobs in the block whatever the limits of their keys are."""
    token = _ignores_limits.set(True)
    try:
        yield
    finally:
        _ignores_limits.reset(token)


def take_within_limits(jobs: Sequence[Job], now: datetime) -> list[Job]:
    """Return those of these jobs that may start now by the limits of their keys, and have the others wait.

    Called with locked rows, inside the transaction that claims them, last.
    """
    limited = [job for job in jobs if is_limited(job)]
    if not limited:
        return list(jobs)
    lines = read_lines({job.limit_key for job in limited})
    opens_at = {job.id: now + MAX_WAIT for job in limited if job.limit_turn is None and line_of(job) in lines}
    states = _take(Counter(job.limit_key for job in limited if job.id not in opens_at), now)
    left = {key: state.free for key, state in states.items()}
    for job in limited:
        if job.id in opens_at or job.limit_key not in states:
            continue
        left[job.limit_key] -= 1
        if left[job.limit_key] < 0:
            opens_at[job.id] = states[job.limit_key].opens_at
    _have_wait([job for job in limited if job.id in opens_at], opens_at, now)
    return [job for job in jobs if job.id not in opens_at]


def _take(wanted: Mapping[str, int], now: datetime) -> Mapping[str, LimitState]:
    return _ask(hooks.start_limits.take, wanted, now)


def _read(keys: Collection[str], now: datetime) -> Mapping[str, LimitState]:
    return _ask(hooks.start_limits.read, keys, now)


def wait_in_lines(jobs: Sequence[Job], now: datetime) -> int:
    """Have those of these locked jobs wait in whose lines others wait already. Return how many."""
    limited = [job for job in jobs if job.limit_turn is None and is_limited(job)]
    lines = read_lines({job.limit_key for job in limited})
    behind = [job for job in limited if line_of(job) in lines]
    _have_wait(behind, {job.id: now + MAX_WAIT for job in behind}, now)
    return len(behind)


def _ask(hook: Callable[..., Mapping[str, LimitState]], keys: Any, now: datetime) -> Mapping[str, LimitState]:
    """Return what an extension says of keys. If it fails, their jobs wait a moment, and no others."""
    if not keys:
        return {}
    try:
        with transaction.atomic(using=database()):
            return hook(keys, now)
    except Exception as exc:
        # Without the table of the extension too, which may have been taken out.
        if is_unavailable(exc) and not is_missing(exc):
            raise
        logger.exception(
            "Could not read the limits of keys, whose jobs wait: %s", ", ".join(sorted(keys)[:10])
        )
        return dict.fromkeys(keys, LimitState(0, now + timedelta(seconds=FAILURE_PAUSE_SECONDS)))


def _have_wait(jobs: Sequence[Job], opens_at: Mapping[Any, datetime], now: datetime) -> None:
    if not jobs:
        return
    first: dict[Line, datetime] = {}
    for job in jobs:
        first[line_of(job)] = min(opens_at[job.id], first.get(line_of(job), opens_at[job.id]))
    db = connection()
    least = "least" if db.vendor == "postgresql" else "min"
    rows = ", ".join(["(%s, %s, %s, %s)"] * len(first))
    with db.cursor() as cursor:
        # Locked, so that no other process finds the line empty and deletes its row.
        cursor.execute(
            f"INSERT INTO notifications_limitedqueue (backend, queue_name, key, opens_at) VALUES {rows} "
            "ON CONFLICT (key, backend, queue_name) DO UPDATE SET "
            f"opens_at = {least}(notifications_limitedqueue.opens_at, excluded.opens_at)",
            [value for line, at in sorted(first.items()) for value in (*line, times.to_db(at, db))],
        )
    new = [job for job in jobs if job.limit_turn is None]
    for job, turn in zip(new, next_turns(new), strict=True):
        job.limit_turn = turn
    due_at = times.to_db(now + MAX_WAIT, db)
    update_locked_rows(
        ("due_at", "limit_turn"),
        [((due_at, job.limit_turn), job) for job in jobs],
        states=(Job.State.QUEUED,),
    )


def open_limits() -> float | None:
    """Have the first jobs of each line whose limit has opened join the queue. None: no job waits for a limit.

    Returns the seconds until the next limit opens, 0 if more lines may have opened.
    """
    opens_at = LimitedQueue.objects.using(database()).order_by("opens_at").values_list("opens_at", flat=True)
    if (first := opens_at.first()) is None:
        return None
    seconds = (times.as_utc(first) - database_now()).total_seconds()
    if seconds > 0:
        return seconds
    return 0.0 if fair_atomic(_open_limits) else _LOCKED_PAUSE_SECONDS


#: Seconds until lines are looked at again that other transactions hold.
_LOCKED_PAUSE_SECONDS = 0.02


def _open_limits() -> int:
    now = database_now()
    rows = LimitedQueue.objects.using(database()).filter(opens_at__lte=now).order_by("opens_at")
    opened = list(lock_query(rows)[:MAX_OPENED])
    states = _read({line.key for line in opened}, now)
    jobs: list[Job] = []
    for line in opened:
        line.opens_at = _choose_jobs(line, states.get(line.key), jobs, now)
    _join_queue([job for job in jobs if job.due_at is not None])
    _leave_lines([job for job in jobs if job.limit_turn is None])
    _update_lines(opened)
    return len(opened)


def _choose_jobs(line: LimitedQueue, state: LimitState | None, jobs: list[Job], now: datetime) -> datetime:
    """Add the jobs of a line to ``jobs`` that join the queue now. Return when the line is looked at again.

    Those without a limit leave the line: their ``limit_turn`` is None.
    """
    room = max_rows() - len(jobs)
    if room <= MAX_READ_AHEAD:
        return now
    free = room if state is None else min(state.free, room - MAX_READ_AHEAD)
    is_cut = state is None or free < state.free
    for job in _first_jobs(line, min(free + MAX_READ_AHEAD, room)):
        # Its task is not imported here, within a transaction. The check of lines has done that.
        if state is None or not _has_limit_if_imported(job.task_path):
            is_cut, job.limit_turn = True, None
        elif free > 0:
            free -= 1
            if job.due_at is None:
                continue
        else:
            continue
        jobs.append(job)
    return now if is_cut or state is None else state.opens_at


def _first_jobs(line: LimitedQueue, limit: int) -> list[Job]:
    """Lock the first jobs of a line, also those that have joined the queue already."""
    if limit <= 0:
        return []
    columns = ", ".join(field.column for field in Job._meta.concrete_fields)
    with connection().cursor() as cursor:
        cursor.execute(
            f"SELECT {columns} {jobs_in_line('%s', '%s', '%s')} {IN_TURN} LIMIT {limit}{lock_sql()}",
            [line.backend, line.queue_name, line.key],
        )
        return instances(Job, cursor.fetchall())


def _join_queue(jobs: Sequence[Job]) -> None:
    places = next_places(jobs, [job.executor for job in jobs])
    update_locked_rows(
        ("share_name", "turn"),
        list(zip(places, jobs, strict=True)),
        assignments=("due_at = NULL",),
        states=(Job.State.QUEUED,),
    )
    for job in jobs:
        job.due_at = None
    ring_queued(jobs)


def _leave_lines(jobs: Sequence[Job]) -> None:
    rows = [((None,), job) for job in jobs]
    update_locked_rows(("limit_turn",), rows, states=(Job.State.QUEUED,))


def _update_lines(lines: Sequence[LimitedQueue]) -> None:
    """Store when these lines are looked at again, and delete those in which no job waits."""
    db = connection()
    rows = [(times.to_db(line.opens_at, db), line.pk) for line in lines]
    update_rows(LimitedQueue, ("opens_at",), ("id",), rows)
    in_line = jobs_in_line("line.backend", "line.queue_name", "line.key") + " AND due_at IS NOT NULL"
    ids = ", ".join(["%s"] * len(lines))
    if lines:
        with db.cursor() as cursor:
            cursor.execute(
                f"DELETE FROM notifications_limitedqueue AS line WHERE id IN ({ids}) "
                f"AND NOT EXISTS (SELECT 1 {in_line})",
                [line.pk for line in lines],
            )


class LineCheck:
    """Compares line after line with what the code of this process limits, and opens those that wait too long.

    A deploy may have changed a rate, or removed it, its task's decorator or its app.
    """

    def __init__(self) -> None:
        self._after = 0
        self._seconds = self.interval = 0.0

    def run_chunk(self) -> bool:
        """Check the next lines. Return whether there are more."""
        started = time.monotonic()
        lines = _read_first_jobs(self._after)
        now = database_now()
        states = _read({line.key for line, _ in lines}, now)
        late = [line for line, path in lines if _opens_earlier(line, path, states.get(line.key))]
        if late:
            retrying_atomic(lambda: _open_now([line.pk for line in late], now))
        has_more = len(lines) == MAX_CHECKED
        self._after = lines[-1][0].pk if has_more else 0
        self._seconds += time.monotonic() - started
        if not has_more:
            self.interval = max(CHECK_INTERVAL_SECONDS, 100 * self._seconds)
            self._seconds = 0.0
        return has_more


def _read_first_jobs(after: int) -> list[tuple[LimitedQueue, str]]:
    """Return the next lines, and the path of the task of the first job of each."""
    in_line = jobs_in_line("line.backend", "line.queue_name", "line.key")
    with connection().cursor() as cursor:
        cursor.execute(
            "SELECT id, backend, queue_name, key, opens_at, "
            f"coalesce((SELECT task_path {in_line} {IN_TURN} LIMIT 1), '') "
            f"FROM notifications_limitedqueue AS line WHERE id > %s ORDER BY id LIMIT {MAX_CHECKED}",
            [after],
        )
        rows = cursor.fetchall()
    return [
        (
            LimitedQueue(id=id, backend=backend, queue_name=queue, key=key, opens_at=read_moment(opens_at)),
            path,
        )
        for id, backend, queue, key, opens_at, path in rows
    ]


def _opens_earlier(line: LimitedQueue, path: str, state: LimitState | None) -> bool:
    if state is None or not _has_limit(path, if_unknown=True):
        return True
    return state.opens_at + timedelta(seconds=CHECK_INTERVAL_SECONDS) < times.as_utc(line.opens_at)


def _open_now(ids: Sequence[int], now: datetime) -> None:
    lines = LimitedQueue.objects.using(database())
    locked = lock_query(lines.filter(id__in=ids, opens_at__gt=now).order_by("id")).values_list(
        "id", flat=True
    )
    lines.filter(id__in=list(locked)).update(opens_at=now)


def opened_limits_condition() -> tuple[str, Sequence[Any]]:
    """Return SQL that is true if ``open_limits()`` finds something, and its parameters."""
    now, param = database_now_sql()
    return f"EXISTS (SELECT 1 FROM notifications_limitedqueue WHERE opens_at <= {now})", (param,)


def waiting_condition() -> tuple[str, Sequence[Any]]:
    """Return SQL that is true if jobs wait for limits, and its parameters."""
    return "EXISTS (SELECT 1 FROM notifications_limitedqueue)", ()
