"""Jobs that wait for the limit of a key, which an extension counts: only a claim takes from it.

A claim that meets a job whose limit is closed has it wait: it sets ``due_at``, so that claims do not see the job, and
gives it a turn in the line of its key and queue. When the limit opens, the first jobs of each line join the queue, as
many as may start, and the claim of these takes from the limit. A job that comes while others wait in its line waits
too.

That a job waits is a hint: nothing is counted by it, and a wrong one costs time only. See ``limit_openings.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from notifications import times
from notifications.db.transactions import connection
from notifications.extension import hooks
from notifications.jobs.declaring.templates import has_limit_key
from notifications.jobs.limit_lines import LimitLine, line_of, next_turns, read_lines
from notifications.jobs.results import find_task
from notifications.jobs.transitions.conditional_updates import update_locked_rows
from notifications.models import Job

#: After which time a job that waits joins the queue although nothing has opened its limit.
MAX_WAIT = timedelta(hours=1)
#: Seconds until jobs are looked at again whose limits could not be read.
FAILURE_PAUSE_SECONDS = 5.0
#: Seconds for which the start of a job is counted by its limit. One that comes later goes back to the queue.
START_VALID_SECONDS = 1.0


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
        if (allowed := hook(wanted, now, counts=counts)) is None:
            until = now + timedelta(seconds=FAILURE_PAUSE_SECONDS)
            allowed = dict.fromkeys(wanted.keys() - states.keys(), (0, until))
        states |= {key: LimitState(*state) for key, state in allowed.items()}
    return states


def _have_wait(jobs: Sequence[Job], opens_at: Mapping[Any, datetime], now: datetime) -> None:
    if not jobs:
        return
    first: dict[LimitLine, datetime] = {}
    for job in jobs:
        at, other = opens_at[job.id], first.get(line_of(job), opens_at[job.id])
        first[line_of(job)] = max(at, other) if now in (at, other) else min(at, other)
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
