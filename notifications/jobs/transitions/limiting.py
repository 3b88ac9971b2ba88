"""Jobs that wait for the limit of a key, which an extension counts: only a claim takes from it.

A claim that meets a job whose limit is closed has it wait: it sets ``due_at``, so that claims do not see the job, and
gives it a turn in the line of its key and queue. When the limit opens, the first jobs of each line join the queue, as
many as may start, and the claim of these takes from the limit. A job that comes while others wait in its line waits
too.

Those of one backend, queue and key stand in a line of their own, by priority and ``limit_turn``, whether they wait or
have joined the queue to be claimed. A line has the order of ``jobs/turns.py``: what a share has in it stands in a row,
and a share that joins it stands beside the first ones of the others.

That a job waits is a hint: nothing is counted by it, and a wrong one costs time only. See ``limit_openings.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import transaction

from notifications import times
from notifications.db.transactions import chunks, connection, database, dialect
from notifications.db.unavailable import is_fault_of_nobody
from notifications.extension import hooks
from notifications.extension.calls import log_left_out, name_of
from notifications.jobs.claiming.sources import WAITS_FOR_LIMIT, limited_jobs
from notifications.jobs.declaring.templates import has_limit_key
from notifications.jobs.results import find_task
from notifications.jobs.transitions.conditional_updates import update_locked_rows
from notifications.jobs.turns import MAX_SHARES_PER_QUERY, next_in_rows, share_of
from notifications.models import Job, LimitedQueue

#: After which time a job that waits joins the queue although nothing has opened its limit.
MAX_WAIT = timedelta(hours=1)
#: Seconds until jobs are looked at again whose limits could not be read.
FAILURE_PAUSE_SECONDS = 5.0
#: Seconds for which the start of a job is counted by its limit. One that comes later goes back to the queue.
START_VALID_SECONDS = 1.0


class LimitLine(NamedTuple):
    """The jobs of a queue with a key that an extension limits."""

    backend: str
    queue_name: str
    key: str

    @staticmethod
    def count_waiting(keys: Iterable[str], limit: int) -> dict[str, int]:
        """Return how many jobs wait for the limit of each of these keys, at most ``limit`` in each queue."""
        counts = dict.fromkeys(keys, 0)
        waiting = jobs_in_line("line.backend", "line.queue_name", "line.key") + f" AND {WAITS_FOR_LIMIT}"
        for chunk in chunks(counts):
            with connection().cursor() as cursor:
                cursor.execute(
                    f"SELECT key, (SELECT count(*) FROM (SELECT 1 {waiting} LIMIT {limit}) AS counted) "
                    f"FROM notifications_limitedqueue AS line WHERE key IN ({', '.join(['%s'] * len(chunk))})",
                    chunk,
                )
                for key, count in cursor.fetchall():
                    counts[key] += count
        return counts

    @staticmethod
    def count_before(job: Job, limit: int) -> int:
        """Return how many jobs stand before a job in its line, at most ``limit``."""
        with connection().cursor() as cursor:
            cursor.execute(
                f"SELECT id {jobs_in_line('%s', '%s', '%s')} {IN_TURN} LIMIT {limit}", line_of(job)
            )
            ids = [Job._meta.pk.to_python(id) for (id,) in cursor.fetchall()]
        return next((index for index, id in enumerate(ids) if id == job.id), limit)


def line_of(job: Any) -> LimitLine:
    """Return the line in which a job with a key waits for its limit."""
    return LimitLine(job.backend, job.queue_name, job.limit_key)


def jobs_in_line(backend: str, queue: str, key: str) -> str:
    """Return FROM and WHERE of the queued jobs of a line, in SQL for each of its columns, by the index "limited"."""
    return f"{limited_jobs()} AND backend = {backend} AND queue_name = {queue} AND limit_key = {key}"


IN_TURN = "ORDER BY priority DESC, limit_turn, id"


def read_lines(keys: Collection[str]) -> set[LimitLine]:
    """Return the lines of these keys in which jobs wait."""
    rows = LimitedQueue.objects.using(database()).order_by()
    return {
        LimitLine(*values)
        for chunk in chunks(sorted(keys))
        for values in rows.filter(key__in=chunk).values_list("backend", "queue_name", "key")
    }


def next_turns(jobs: Sequence[Job]) -> list[int]:
    """Return the turns of jobs that join their lines now, in this order, in one query for 100 shares."""
    return next_in_rows([(line_of(job), job.priority, share_of(job)) for job in jobs], _read_last)


def _read_last(keys: Collection[tuple[LimitLine, int, str]]) -> dict[tuple[LimitLine, int, str], int]:
    """Return the last turn of each share in its line, or else that before the first one of the line."""
    found = {}
    of_line = jobs_in_line("alias", "queue", "of_key") + " AND priority = level"
    of_share = of_line.replace("_job_limited", "_job_limit_share") + " AND share_name = of_share"
    first = f"(SELECT limit_turn {of_line} ORDER BY limit_turn, id LIMIT 1) - 1"
    last = f"(SELECT limit_turn {of_share} ORDER BY limit_turn DESC LIMIT 1)"
    turn = dialect().greatest(f"coalesce({first}, 0)", f"coalesce({last}, 0)")
    for chunk in chunks(sorted(keys), MAX_SHARES_PER_QUERY):
        values = ", ".join(["(%s, %s, %s, CAST(%s AS smallint), %s)"] * len(chunk))
        with connection().cursor() as cursor:
            cursor.execute(
                f"WITH keys (alias, queue, of_key, level, of_share) AS (VALUES {values}) SELECT alias, queue, of_key, "
                f"level, of_share, {turn} FROM keys",
                [value for line, level, share in chunk for value in (*line, level, share)],
            )
            for alias, queue, key, level, share, turn in cursor.fetchall():
                found[LimitLine(alias, queue, key), level, share] = turn
    return found


class LimitState(NamedTuple):
    """What the limit of a key allows: how many jobs may start now, and when some more may, after these."""

    free: int
    opens_at: datetime


def is_limited(job: Any) -> bool:
    """Return whether the code of this process limits the starts of a job's task, which it may import."""
    return bool(job.limit_key) and not _ignores_limits.get() and has_limit(job.task_path)


def has_limit(path: str, *, if_unknown: bool = False) -> bool:
    """Return whether the task at a path has a limit in the code of this process, which imports it."""
    try:
        return has_limit_key(find_task(path).func)
    except ImportError:
        return if_unknown


_ignores_limits: ContextVar[bool] = ContextVar("notifications_ignores_limits", default=False)


@contextmanager
def without_limits() -> Iterator[None]:
    """Claim jobs in the block whatever the limits of their keys are."""
    token = _ignores_limits.set(True)
    try:
        yield
    finally:
        _ignores_limits.reset(token)


def take_within_limits(jobs: Sequence[Job], now: datetime) -> tuple[list[Job], Collection[str]]:
    """Return those of these jobs that may start now by the limits of their keys, and have the others wait.

    Returns also the keys that have a limit, by which their starts are counted. Called with locked rows, inside the
    transaction that claims them, last.
    """
    limited = [job for job in jobs if is_limited(job)]
    if not limited:
        return list(jobs), ()
    lines = read_lines({job.limit_key for job in limited})
    # Of those that stand behind others it is known of the line. If that is empty meanwhile, it is looked at now.
    opens_at = {job.id: now for job in limited if job.limit_turn is None and line_of(job) in lines}
    wanted = Counter(job.limit_key for job in limited if job.id not in opens_at)
    states = ask_limits(wanted, now, counts=True)
    left = {key: state.free for key, state in states.items()}
    for job in limited:
        if job.id in opens_at or job.limit_key not in states:
            continue
        left[job.limit_key] -= 1
        if left[job.limit_key] < 0:
            opens_at[job.id] = states[job.limit_key].opens_at
    _have_wait([job for job in limited if job.id in opens_at], opens_at, now)
    return [job for job in jobs if job.id not in opens_at], states.keys()


def wait_in_lines(jobs: Sequence[Job], now: datetime) -> int:
    """Have those of these locked jobs wait in whose lines others wait already. Return how many."""
    limited = [job for job in jobs if job.limit_turn is None and is_limited(job)]
    lines = read_lines({job.limit_key for job in limited})
    behind = [job for job in limited if line_of(job) in lines]
    _have_wait(behind, {job.id: now for job in behind}, now)
    return len(behind)


def ask_limits(wanted: Mapping[str, int], now: datetime, *, counts: bool) -> dict[str, LimitState]:
    """Return what extensions say of keys. If one fails, the jobs with these keys wait a moment, and no others."""
    states: dict[str, LimitState] = {}
    for hook in hooks.allow_starts if wanted else ():
        try:
            with transaction.atomic(using=database()):
                allowed = hook.raising(wanted, now, counts=counts)
        except Exception as exc:
            if is_fault_of_nobody(exc):
                raise
            log_left_out(name_of(hook), exc)
            until = now + timedelta(seconds=FAILURE_PAUSE_SECONDS)
            allowed = dict.fromkeys(wanted.keys() - states.keys(), (0, until))
        states |= {key: LimitState(*state) for key, state in allowed.items()}
    return states


def _have_wait(jobs: Sequence[Job], opens_at: Mapping[Any, datetime], now: datetime) -> None:
    if not jobs:
        return
    first: dict[LimitLine, datetime] = {}
    for job in jobs:
        first[line_of(job)] = max(opens_at[job.id], first.get(line_of(job), now))
    db = connection()
    rows = ", ".join(["(%s, %s, %s, %s)"] * len(first))
    with db.cursor() as cursor:
        # Locked, so that no other process finds the line empty and deletes its row.
        cursor.execute(
            f"INSERT INTO notifications_limitedqueue (backend, queue_name, key, opens_at) VALUES {rows} "
            "ON CONFLICT (key, backend, queue_name) DO UPDATE SET "
            "opens_at = excluded.opens_at WHERE excluded.opens_at < notifications_limitedqueue.opens_at "
            "AND excluded.opens_at > %s",
            [
                *(value for line, at in sorted(first.items()) for value in (*line, times.to_db(at, db))),
                times.to_db(now, db),
            ],
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
