"""Turns: the fair order of the queued jobs of one queue, executor and priority.

A *share* is an owner (of the batch, for its jobs; of what a handler is called for), a task without an owner, or what
``@policy(share=…)`` names. Start-time fair queueing, with a clock that reads the highest turn that has begun (Goyal,
Vin, Cheng: Start-time Fair Queuing, SIGCOMM 1996)::

    turn = max(clock, last queued turn of the share) + 1

Jobs begin in the order of their turns, then by age. So the next job of a share that has nothing queued begins before
the second one from now on of each other share, whatever they have enqueued before, and what a share enqueues at once
stands in a row, a turn each. ``tests/model/test_fair_shares.py`` compares what is claimed with a simulation.

The clock is a row, which claims that have left jobs in the queue for ``CLOCK_INTERVAL_SECONDS`` move, at most so often.
It may lag: then a new share is preferred, by what has begun meanwhile at most. Where nothing waits it stands still, and
turns are equal: first in, first out. The highest turn of the running rows would be exact, and need an index of its
own and 0.2 ms to plan on PostgreSQL in each INSERT.

A scheduled job has no turn until it is due and joins the queue. The share of what the app's own senders send is its
user, as the concurrency key names it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from typing import Any, TypeVar

from notifications import times
from notifications.db.dialects import Dialect
from notifications.db.insertion import Computed
from notifications.db.transactions import connection, database, dialect, retrying_atomic
from notifications.jobs.claiming.executors import SENDER_EXECUTORS, WORKER_EXECUTORS
from notifications.jobs.claiming.sources import queued_jobs
from notifications.jobs.declaring.policies import owner_share
from notifications.jobs.declaring.templates import storable_key
from notifications.models import Job

logger = logging.getLogger("notifications.jobs")
K = TypeVar("K")

#: Seconds between two times that a process stores what it has begun.
CLOCK_INTERVAL_SECONDS = 0.5
#: Seconds for which a process knows the last turn of a share without reading it, and of how many shares.
LAST_TURN_VALID_SECONDS, MAX_CACHED_SHARES = 0.25, 10_000
#: The same for the turn that it has given last to a job that has waited for a limit: one opening follows another.
TURN_AFTER_LIMIT_VALID_SECONDS = 1.0
#: Shares whose turns one query reads at most.
MAX_SHARES_PER_QUERY = 100

#: Jobs that are counted at most.
MAX_COUNTED = 1_000
#: What ``next_places`` needs of a job, besides its owner and task.
TURN_COLUMNS = ("backend", "queue_name", "executor", "priority", "share_name", "concurrency_key")

#: Backend, queue, executor and priority: what has a clock.
Clock = tuple[str, str, str, int]

_CLOCK = (
    "coalesce((SELECT turn FROM notifications_queueclock "
    "WHERE backend = {} AND queue_name = {} AND executor = {} AND priority = {}), 0)"
)
_LAST = (
    "coalesce((SELECT turn {} AND backend = {} AND queue_name = {} AND executor = {} "
    "AND due_at IS NULL AND priority = {} "
    "AND share_name = {} ORDER BY turn DESC LIMIT 1), 0)"
)

_lock = threading.Lock()
#: The last turn that this process has given to a share under a clock, and until when (monotonic) it is known.
_last_turns: dict[tuple[str, Clock, str], tuple[int, float]] = {}
#: The highest turns that have begun since they were stored, and when that was (monotonic).
_begun: dict[Clock, int] = {}
_stored_at = 0.0
#: Since when (monotonic) each claim of a kind of executor has left jobs.
_busy_since: dict[str, float] = {}


def forget() -> None:
    """Forget what this process knows of turns: a test rolls back the rows from which it has read them."""
    with _lock:
        _last_turns.clear()
        _begun.clear()
        _busy_since.clear()


def share_of(job: Any) -> str:
    """Return the share of a job: what its policy names, the concurrency key of a sender, the owner, or the task."""
    if job.share_name:
        return str(job.share_name)
    if job.concurrency_key and job.executor in SENDER_EXECUTORS:
        return str(job.concurrency_key)
    if (owner := job.user_id) is not None:
        return owner_share(owner)
    return storable_key(f"task:{job.task_path}")


def take_turn(job: Job) -> Computed | None:
    """Set the share of a new job, and its turn if that is known; else return the turn for its INSERT.

    A scheduled job gets its share and the time at which it is due.
    """
    set_due_time(job)
    if not _has_turn(job):
        return None
    job.share_name = share_of(job)
    clock = _clock_of(job)
    key = database(), clock, job.share_name
    with _lock:
        last, known_until = _last_turns.get(key, (0, 0.0))
        # The clock was read with the last turn, a moment ago.
        if time.monotonic() < known_until:
            job.turn = last + 1
            # Not for longer with each job: a transaction that was rolled back has queued none.
            _last_turns[key] = job.turn, known_until
            return None
    return Computed("turn", _next_turn_sql(dialect()), [*clock, *clock, job.share_name])


@cache
def _next_turn_sql(dialect: Dialect) -> str:
    clock, last = _CLOCK.format(*["%s"] * 4), _LAST.format(queued_jobs("share"), *["%s"] * 5)
    return f"{dialect.greatest(clock, last)} + 1"


def assign_turns(jobs: Iterable[Job]) -> None:
    """Do the same for new jobs, in one query for 100 shares."""
    jobs = list(jobs)
    for job in jobs:
        set_due_time(job)
    assign_places([job for job in jobs if job.state == Job.State.QUEUED])


def assign_places(jobs: Iterable[Job]) -> None:
    """Set the share and turn of jobs that join the queue, in a row for each share.

    One query reads the turns of 100 shares. Scheduled jobs are left as they are.
    """
    ready = [job for job in jobs if _is_in_order(job)]
    for job, place in zip(ready, next_places(ready, [job.executor for job in ready]), strict=True):
        job.share_name, job.turn = place


def set_due_time(job: Job) -> None:
    """Set when a new job joins the queue: at its ``run_after``, or now. A scheduled job has its share already."""
    if job.run_after is not None and job.state == Job.State.QUEUED and job.run_after > times.now():
        job.due_at = job.run_after
        job.share_name = share_of(job)


def next_places(jobs: Sequence[Any], executors: Sequence[str]) -> list[tuple[str, int]]:
    """Return the share and turn of each of these jobs, which are about to be queued again for these executors.

    ``jobs`` have the columns ``TURN_COLUMNS``, owner and task.
    """
    shares = [
        ((job.backend, job.queue_name, executor, job.priority), share_of(job))
        for job, executor in zip(jobs, executors, strict=True)
    ]
    return [(share, turn) for (_, share), turn in zip(shares, next_in_rows(shares, _read_last), strict=True)]


def places_after_limit(jobs: Sequence[Any]) -> list[tuple[str, int]]:
    """Return the same for jobs that have waited for the limit of a key, and join their queues again.

    They stand in a row for each share, before what the share has enqueued meanwhile: that may be thousands of jobs,
    which are to wait too. So the last turn of the share is the one that this process has given to such a job.
    """
    shares = [(_clock_of(job), share_of(job)) for job in jobs]
    clocks = _read_clocks({clock for clock, _ in shares})
    places, now = [], time.monotonic()
    with _lock:
        if len(_last_turns) >= MAX_CACHED_SHARES:
            _last_turns.clear()
        for clock, share in shares:
            key = database(), clock, f"{share}\0after a limit"
            last, known_until = _last_turns.get(key, (0, 0.0))
            turn = max(clocks.get(clock, 0), last if now < known_until else 0) + 1
            _last_turns[key] = turn, now + TURN_AFTER_LIMIT_VALID_SECONDS
            places.append((share, turn))
    return places


def _read_clocks(clocks: Collection[Clock]) -> dict[Clock, int]:
    if not clocks:
        return {}
    rows = ", ".join(["(%s, %s, %s, CAST(%s AS smallint))"] * len(clocks))
    columns = "backend, queue_name, executor, priority"
    with connection().cursor() as cursor:
        cursor.execute(
            f"SELECT {columns}, turn FROM notifications_queueclock WHERE ({columns}) IN (VALUES {rows})",
            [value for clock in sorted(clocks) for value in clock],
        )
        return {tuple(clock): turn for *clock, turn in cursor.fetchall()}  # type: ignore[misc]


def next_in_rows(keys: Sequence[K], read_last: Callable[[set[K]], dict[K, int]]) -> list[int]:
    """Return the next turn for each of these keys, equal ones in a row, after the last turns that are read."""
    last = read_last(set(keys)) if keys else {}
    turns = []
    for key in keys:
        last[key] += 1
        turns.append(last[key])
    return turns


def remember(job: Job) -> None:
    """Take note of the turn that the database has computed, for the next jobs of the share."""
    with _lock:
        if len(_last_turns) >= MAX_CACHED_SHARES:
            _last_turns.clear()
        key = database(), _clock_of(job), job.share_name
        _last_turns[key] = job.turn, time.monotonic() + LAST_TURN_VALID_SECONDS


def count_before(job: Job) -> int | None:
    """Return how many jobs of its share begin before a queued job, at most ``MAX_COUNTED``. None if it has no turn."""
    if not _has_turn(job):
        return None
    of_share = "backend = %s AND queue_name = %s AND executor = %s AND due_at IS NULL AND priority = %s"
    sql = (
        f"SELECT count(*) FROM (SELECT 1 {queued_jobs('share')} AND {of_share} AND share_name = %s AND turn < %s "
        f"LIMIT {MAX_COUNTED}) AS before"
    )
    with connection().cursor() as cursor:
        cursor.execute(sql, [*_clock_of(job), job.share_name, job.turn])
        return int(cursor.fetchone()[0])


def note_idle(kinds: Iterable[str]) -> None:
    """Take note that a claim has left no jobs of these executors: the next ones begin at once, whatever their turns."""
    if _busy_since:
        for kind in kinds:
            _busy_since.pop(kind, None)


def note_begun(jobs: Collection[Job], kinds: Iterable[str]) -> bool:
    """Move the clocks to the turns of these jobs, which have been claimed, while others of these executors are left.

    Returns whether others have been left for ``CLOCK_INTERVAL_SECONDS``, and the clocks were moved.
    """
    global _stored_at
    with _lock:
        for job in jobs:
            clock = _clock_of(job)
            _begun[clock] = max(_begun.get(clock, 0), job.turn)
        now = time.monotonic()
        busy_since = min([_busy_since.setdefault(kind, now) for kind in kinds])
        if not _begun or now - max(_stored_at, busy_since) < CLOCK_INTERVAL_SECONDS:
            return False
        _stored_at = now
        begun = sorted(_begun.items())
        _begun.clear()
    retrying_atomic(lambda: _store_clocks(begun))
    return True


def _store_clocks(begun: Sequence[tuple[Clock, int]]) -> None:
    rows = ", ".join(["(%s, %s, %s, %s, %s)"] * len(begun))
    sql = (
        f"INSERT INTO notifications_queueclock (backend, queue_name, executor, priority, turn) VALUES {rows} "
        "ON CONFLICT (backend, queue_name, executor, priority) DO UPDATE SET turn = excluded.turn "
        "WHERE notifications_queueclock.turn < excluded.turn"
    )
    with connection().cursor() as cursor:
        cursor.execute(sql, [value for clock, turn in begun for value in (*clock, turn)])


def _has_turn(job: Job) -> bool:
    return job.state == Job.State.QUEUED and _is_in_order(job)


def _is_in_order(job: Job) -> bool:
    return job.due_at is None and job.executor in WORKER_EXECUTORS


def _clock_of(job: Job) -> Clock:
    return job.backend, job.queue_name, job.executor, job.priority


def _read_last(keys: Collection[tuple[Clock, str]]) -> dict[tuple[Clock, str], int]:
    """Return the greater of the clock and the last queued turn, of each share under each clock."""
    found: dict[tuple[Clock, str], int] = {}
    ordered: Sequence[Any] = sorted(keys)
    names = "alias, queue, runs_in, level, of_share"
    row = "(%s, %s, %s, CAST(%s AS smallint), %s)"
    clock = _CLOCK.format(*names.split(", ")[:4])
    last = _LAST.format(queued_jobs("share"), *names.split(", "))
    for start in range(0, len(ordered), MAX_SHARES_PER_QUERY):
        chunk = ordered[start : start + MAX_SHARES_PER_QUERY]
        with connection().cursor() as cursor:
            cursor.execute(
                f"WITH keys ({names}) AS (VALUES {', '.join([row] * len(chunk))}) "
                f"SELECT {names}, {clock}, {last} FROM keys",
                [value for of_clock, share in chunk for value in (*of_clock, share)],
            )
            for *of_clock, share, begun, queued in cursor.fetchall():
                found[tuple(of_clock), share] = max(begun, queued)  # type: ignore[index]
    return found
