"""Limits that jobs wait for open: the first jobs of each line join the queue again. See ``limiting.py``.

Each process does that, and ends the waits for keys and tasks that its code does not limit. What no process opens joins
the queue at its ``due_at``, as a scheduled job does.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from notifications import times
from notifications.db.bulk import instances, lock_query, lock_sql, update_rows
from notifications.db.clock import database_now, database_now_sql
from notifications.db.transactions import connection, database, dialect, fair_atomic, retrying_atomic
from notifications.jobs.claiming.sources import WAITS_FOR_LIMIT, read_moment
from notifications.jobs.transitions.conditional_updates import max_rows, ring_queued, update_locked_rows
from notifications.jobs.transitions.limiting import (
    IN_TURN,
    LimitLine,
    LimitState,
    ask_limits,
    has_limit,
    jobs_in_line,
    line_of,
)
from notifications.jobs.turns import places_after_limit
from notifications.models import Job, LimitedQueue

#: Lines that one transaction opens, and that one round compares with what the code limits.
MAX_OPENED, MAX_CHECKED = 20, 200
#: Jobs of a line that are read beside those that may start: one of them may have no limit any more.
MAX_READ_AHEAD = 5
#: Seconds between two checks of all lines, or 100 times as many as one takes.
CHECK_INTERVAL_SECONDS = 5.0
#: Seconds until lines are looked at again that other transactions hold.
LOCKED_PAUSE_SECONDS = 0.02


def _has_limit_if_imported(path: str) -> bool:
    module = path.rpartition(".")[0]
    return module not in sys.modules or has_limit(path, if_unknown=True)


def _read(keys: Iterable[str], now: datetime) -> dict[str, LimitState]:
    return ask_limits(dict.fromkeys(keys, max_rows()), now, counts=False)


def open_limits() -> float | None:
    """Have the first jobs of each line whose limit has opened join the queue. None: no job waits for a limit.

    Returns the seconds until the next limit opens, 0 if more lines may have opened.
    """
    # Without a queryset, to build which takes five times as long: each worker reads it four times a second or more.
    with connection().cursor() as cursor:
        cursor.execute("SELECT min(opens_at) FROM notifications_limitedqueue")
        opens_at = read_moment(cursor.fetchone()[0])
    if opens_at is None:
        return None
    seconds = (opens_at - database_now()).total_seconds()
    if seconds > 0:
        return seconds
    return 0.0 if fair_atomic(_open_limits) else LOCKED_PAUSE_SECONDS


def _open_limits() -> int:
    now = database_now()
    rows = LimitedQueue.objects.using(database()).filter(opens_at__lte=now).order_by("opens_at")
    opened = list(lock_query(rows)[:MAX_OPENED])
    states = _read({line.key for line in opened}, now)
    room = max(max_rows() // max(len(opened), 1), 1)
    allowed = {
        line.pk: room if (state := states.get(line.key)) is None else min(state.free, room) for line in opened
    }
    found = _lock_first_jobs(opened, max(allowed.values(), default=0) + MAX_READ_AHEAD)
    joining: list[Job] = []
    leaving: list[Job] = []
    for line in opened:
        state, free = states.get(line.key), allowed[line.pk]
        is_cut = state is None or free < state.free
        for job in found.get(_line(line), ()):
            # Its task is not imported here, within a transaction. The check of lines has done that.
            if state is None or not _has_limit_if_imported(job.task_path):
                is_cut = True
                leaving.append(job)
            elif free > 0:
                free -= 1
            else:
                continue
            joining.append(job)
        line.opens_at = now if is_cut or state is None else state.opens_at
    _join_queue(joining)
    update_locked_rows(("limit_turn",), [((None,), job) for job in leaving], states=(Job.State.QUEUED,))
    _update_lines(opened)
    return len(opened)


def _line(row: LimitedQueue) -> LimitLine:
    return LimitLine(row.backend, row.queue_name, row.key)


def _lock_first_jobs(lines: Sequence[LimitedQueue], count: int) -> Mapping[LimitLine, Sequence[Job]]:
    """Lock the first jobs of each line that wait, without waiting.

    Those that have joined the queue take no place of others: a concurrency key or a full executor may hold them back.
    """
    found: dict[LimitLine, list[Job]] = defaultdict(list)
    if not lines:
        return found
    names = [field.column for field in Job._meta.concrete_fields]
    waiting = jobs_in_line("alias", "name", "of_key") + f" AND {WAITS_FOR_LIMIT}"
    first = f"{waiting} {IN_TURN} LIMIT {count}{lock_sql()}"
    with connection().cursor() as cursor:
        cursor.execute(
            f"WITH lines (alias, name, of_key) AS (VALUES {', '.join(['(%s, %s, %s)'] * len(lines))}) "
            f"SELECT {', '.join(f'job.{name}' for name in names)} FROM lines "
            f"{dialect().join_each(', '.join(names), first, 'job')}",
            [value for line in lines for value in _line(line)],
        )
        jobs = instances(Job, cursor.fetchall())
    for job in sorted(jobs, key=lambda job: (-job.priority, job.limit_turn or 0, job.id)):
        found[line_of(job)].append(job)
    return found


def _join_queue(jobs: Sequence[Job]) -> None:
    places = places_after_limit(jobs)
    update_locked_rows(
        ("share_name", "turn"),
        list(zip(places, jobs, strict=True)),
        assignments=("due_at = NULL",),
        states=(Job.State.QUEUED,),
    )
    for job in jobs:
        job.due_at = None
    ring_queued(jobs)


def _update_lines(lines: Sequence[LimitedQueue]) -> None:
    """Store when these lines are looked at again, and delete those in which no job waits."""
    db = connection()
    rows = [(times.to_db(line.opens_at, db), line.pk) for line in lines]
    update_rows(LimitedQueue, ("opens_at",), ("id",), rows)
    in_line = jobs_in_line("line.backend", "line.queue_name", "line.key") + f" AND {WAITS_FOR_LIMIT}"
    ids = ", ".join(["%s"] * len(lines))
    if lines:
        with db.cursor() as cursor:
            # NOT EXISTS would be planned as a join with all jobs that wait, which takes 60 ms for 10,000.
            cursor.execute(
                f"DELETE FROM notifications_limitedqueue AS line WHERE id IN ({ids}) "
                f"AND (SELECT true {in_line} LIMIT 1) IS NULL",
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
    if state is None or not has_limit(path, if_unknown=True):
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
