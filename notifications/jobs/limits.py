"""The limits of jobs per user: how many may be active, and how many requests may enqueue in a minute.

``NOTIFICATIONS["ACTIVE_JOBS_PER_USER"]``: the INSERT of a job checks the limit in the same statement. To plan that and
to count the jobs is a good part of a small transaction: 0.10 of 0.55 ms on PostgreSQL, 0.02 of 0.38 ms on SQLite. So
when a check finds a user below half of the limit, this process inserts the next jobs of that user without one: up to a
sixteenth of the limit, for ``CHECK_VALID_SECONDS``. Eight processes that do so at once stay within the limit together.
Above half of the limit each INSERT checks.

To find the 99,000 active jobs of a user with a limit of 100,000 takes 23 ms on PostgreSQL. So above
``MAX_JOBS_READ`` a process counts them once, and each INSERT looks, by an index, only whether too many have been queued
since. What has ended since is found by the next count, which follows when there seem to be too many.

The limit is not exact. Two transactions that insert the last allowed job at the same time both succeed, because neither
sees the other's row before its commit. And a process that adds hundreds of jobs within ``CHECK_VALID_SECONDS`` does not
count against what other processes may still insert without a check.

``NOTIFICATIONS["JOBS_PER_MINUTE"]``: the jobs of the last minute are counted in the database, by an index, so the limit
holds over all processes. The INSERT of the first job of a request checks it in the same statement. Jobs that are
enqueued outside of ``accepted()`` and of the API for test events of webhooks count, but are never refused. Retries by
hand count too, by ``queued_at``. A job that is retried again and again has the time of the last one. So the others
count in the process that has taken the request, as events of webhooks do that are sent again: their jobs have no
owner.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from notifications import times
from notifications.conf import settings
from notifications.db import bulk
from notifications.db.adapters import user_to_db
from notifications.db.insertion import Computed, insert_one
from notifications.db.transactions import connection, database, dialect
from notifications.exceptions import JobRateExceeded, TooManyJobs
from notifications.jobs import turns
from notifications.models import Job

CHECK_VALID_SECONDS = 0.25
MAX_CACHED_USERS = 10_000
#: Active jobs that the INSERT of a job reads at most to check the limit.
MAX_JOBS_READ = 1_000
#: True if a user has no more active jobs than the second parameter says.
_IS_WITHIN_LIMIT = (
    "(SELECT 1 FROM notifications_job WHERE user_id = %s AND seq = 0 LIMIT 1 OFFSET %s) IS NULL"
)
#: True if no more jobs were queued since the second parameter than the third one says. By statistics from when no job
#: was active SQLite would read all active jobs of the user.
_HAS_FEW_SINCE = (
    "(SELECT 1 FROM notifications_job{} WHERE user_id = %s AND seq = 0 AND queued_at >= %s LIMIT 1 OFFSET %s) "
    "IS NULL"
)
_COUNT = (
    "SELECT count(*) FROM (SELECT 1 FROM notifications_job WHERE user_id = %s AND seq = 0 LIMIT %s) active"
)

#: Database alias, user key, limit.
CacheKey = tuple[str, Any, int]

#: The minute in which jobs count.
WINDOW = timedelta(minutes=1)

_RECENT_JOBS = (
    "(SELECT created_at AS moment FROM notifications_job WHERE user_id = %s AND created_at > %s AND created_at <= %s "
    "UNION ALL SELECT queued_at FROM notifications_job WHERE user_id = %s AND queued_at > %s AND queued_at <= %s "
    "AND queued_at > created_at) AS recent"
)
_IS_BELOW_LIMIT = f" AND (SELECT 1 FROM {_RECENT_JOBS} LIMIT 1 OFFSET %s) IS NULL"
#: The oldest of the jobs that fill the limit: when it leaves the window, another one is allowed.
_BLOCKING_JOB = f"SELECT moment FROM {_RECENT_JOBS} ORDER BY moment DESC LIMIT 1 OFFSET %s"

#: The condition while the retries alone fill the limit.
_NEVER: tuple[str, list[Any]] = " AND 1 = 0", []

#: The users (keys) for whom this request has enqueued, each with its first job. None outside of a request.
_admitted: ContextVar[dict[Any, Job | None] | None] = ContextVar("notifications_admitted", default=None)

T = TypeVar("T")

_lock = threading.Lock()
#: When users (keys) have retried in the last minute (monotonic), and which job. None: what was retried has no owner.
_retries: dict[Any, deque[tuple[float, UUID | None]]] = {}
#: How many more jobs need no check (-1: each one needs it), and until when, on the monotonic clock.
_unchecked: dict[CacheKey, tuple[int, float]] = {}
#: How many active jobs a user had, and when.
_counted: dict[CacheKey, tuple[int, datetime]] = {}


def insert_within_limit(job: Job) -> None:
    """Insert a new job with its turn. Raises ``TooManyJobs`` if its user has too many active jobs."""
    turn = turns.take_turn(job)
    _insert(job, turn)
    if turn:
        turns.remember(job)


def _insert(job: Job, turn: Computed | None) -> None:
    user = job.user_id
    if user is None:
        insert_one(job, computed=turn)
        return
    limit = settings.ACTIVE_JOBS_PER_USER
    key = database(), user, limit
    rate_condition, rate_params = insert_condition(user)
    unchecked = 0 if rate_condition else _take_unchecked(key)
    if unchecked > 0:
        insert_one(job, computed=turn)
        return

    def insert_if_at_most(active_jobs: int) -> bool:
        condition, params = _IS_WITHIN_LIMIT + rate_condition, [user_to_db(user), active_jobs, *rate_params]
        return insert_one(job, condition=condition, params=params, computed=turn)

    def insert_if_few_since(counted: tuple[int, datetime]) -> bool:
        count, since = counted
        if (places := limit - 1 - count) < 0:
            return False
        by_index = dialect().by_index("notifications_job_active")
        condition = _HAS_FEW_SINCE.format(by_index) + rate_condition
        params = [
            *(user_to_db(user), times.to_db(since, connection()), min(places, MAX_JOBS_READ)),
            *rate_params,
        ]
        return insert_one(job, condition=condition, params=params, computed=turn)

    allowance = limit // 16
    if limit > MAX_JOBS_READ:
        if not ((counted := _counted.get(key)) and insert_if_few_since(counted)):
            # This job is one of those that are queued since.
            counted = _count_active(user, limit), job.queued_at
            _keep(_counted, key, counted)
            if not (insert_if_few_since(counted) or insert_if_at_most(limit - 1)):
                _raise_exceeded(user, limit, counted[0])
        if counted[0] <= limit // 2:
            _allow_unchecked(key, min(allowance, MAX_JOBS_READ) - 1)
    elif allowance and not unchecked and insert_if_at_most(limit // 2):
        _allow_unchecked(key, allowance - 1)
    elif insert_if_at_most(limit - 1):
        _allow_unchecked(key, -1)
    else:
        _raise_exceeded(user, limit, _count_active(user, limit) if rate_condition else limit)
    admit(user, job)


def _raise_exceeded(user: Any, limit: int, active_jobs: int) -> NoReturn:
    if active_jobs < limit:
        raise_if_rate_exceeded(user)
    raise TooManyJobs(limit)


def raise_if_exceeded(user: Any, new_jobs: int = 1) -> None:
    """Raise ``TooManyJobs`` if a user (key) may not have so many more active jobs. The caller then adds them."""
    if read_places([user])[user] < new_jobs:
        raise TooManyJobs(settings.ACTIVE_JOBS_PER_USER)
    raise_if_rate_exceeded(user)
    admit(user)


def read_places(users: Collection[Any]) -> dict[Any, int]:
    """Return how many more active jobs each user (key) may have. The caller then adds them."""
    limit = settings.ACTIVE_JOBS_PER_USER
    with _lock:
        for user in users:
            _unchecked.pop((database(), user, limit), None)
    keys = {user_to_db(user): user for user in users}
    condition, params = bulk.where_in(Job, "user_id", list(keys))
    places = dict.fromkeys(users, limit)
    with connection().cursor() as cursor:
        cursor.execute(
            f"SELECT user_id, count(*) FROM notifications_job WHERE {condition} AND seq = 0 GROUP BY user_id",
            params,
        )
        places |= {keys[key]: max(limit - count, 0) for key, count in cursor.fetchall()}
    return places


def _take_unchecked(key: CacheKey) -> int:
    """Return how many jobs still need no check, and take one of them. 0: check again now."""
    with _lock:
        left, valid_until = _unchecked.get(key, (0, 0.0))
        if time.monotonic() > valid_until:
            return 0
        if left > 0:
            _unchecked[key] = left - 1, valid_until
        return left


def _allow_unchecked(key: CacheKey, jobs: int) -> None:
    _keep(_unchecked, key, (jobs, time.monotonic() + CHECK_VALID_SECONDS))


def _keep(cache: dict[CacheKey, T], key: CacheKey, value: T) -> None:
    with _lock:
        if len(cache) >= MAX_CACHED_USERS:
            cache.clear()
        cache[key] = value


def _count_active(user: Any, limit: int) -> int:
    with connection().cursor() as cursor:
        cursor.execute(_COUNT, [user_to_db(user), limit])
        return int(cursor.fetchone()[0])


@contextmanager
def limit_request() -> Iterator[dict[Any, Job | None]]:
    """Apply the limit to the block, as one request. Yield the first job that it inserts for each user (key)."""
    admitted: dict[Any, Job | None] = {}
    token = _admitted.set(admitted)
    try:
        yield admitted
    finally:
        _admitted.reset(token)


def retry_within_rate(user: Any, job: UUID | None, retry: Callable[[], T]) -> T:
    """Call what queues a job again for a request of its user (key), and count it if it does.

    ``job``
        None if it is no job of the user.

    Raises ``JobRateExceeded`` and what ``retry`` raises.
    """
    with limit_request():
        raise_if_rate_exceeded(user)
        admit(user)
        queued = retry()
    if queued:
        with _lock:
            if len(_retries) >= MAX_CACHED_USERS:
                _retries.clear()
            _retries.setdefault(user, deque()).append((time.monotonic(), job))
    return queued


def _read_retries(user: Any) -> deque[float]:
    """Return when the retries of a user (key) were that still count, but for the last of each job: its row has that."""
    with _lock:
        retries = _retries.get(user, deque())
        while retries and retries[0][0] <= time.monotonic() - WINDOW.total_seconds():
            retries.popleft()
        if not retries:
            _retries.pop(user, None)
        last = {job: moment for moment, job in retries}
        moments = [moment for moment, job in retries if job is None or moment != last[job]]
    return deque(moments, settings.JOBS_PER_MINUTE)


def insert_condition(user: Any) -> tuple[str, list[Any]]:
    """Return SQL, beginning with AND, and its parameters, under which a job may be inserted for a user (key).

    It is empty outside of a request, and after the request's first job for the user.
    """
    admitted = _admitted.get()
    if admitted is None or user in admitted:
        return "", []
    retries = len(_read_retries(user))
    return (_IS_BELOW_LIMIT, _params(user, retries)) if retries < settings.JOBS_PER_MINUTE else _NEVER


def admit(user: Any, job: Job | None = None) -> None:
    """Check no further jobs of this request for a user (key)."""
    admitted = _admitted.get()
    if admitted is not None:
        admitted.setdefault(user, job)


def raise_if_rate_exceeded(user: Any) -> None:
    """Raise ``JobRateExceeded`` if this request may not enqueue for a user (key)."""
    if not insert_condition(user)[0]:
        return
    retries = _read_retries(user)
    if len(retries) >= settings.JOBS_PER_MINUTE:
        seconds = WINDOW.total_seconds() - (time.monotonic() - retries[0])
        raise JobRateExceeded(settings.JOBS_PER_MINUTE, max(1, math.ceil(seconds)))
    with connection().cursor() as cursor:
        cursor.execute(_BLOCKING_JOB, _params(user, len(retries)))
        row = cursor.fetchone()
    if row:
        # SQLite returns text.
        moment = datetime.fromisoformat(row[0]) if isinstance(row[0], str) else row[0]
        left = times.from_db(moment, connection()) + WINDOW - times.now()
        retry_after = min(max(1, math.ceil(left.total_seconds())), int(WINDOW.total_seconds()))
        raise JobRateExceeded(settings.JOBS_PER_MINUTE, retry_after)


def _params(user: Any, retries: int = 0) -> list[Any]:
    db, now = connection(), times.now()
    recent = [
        Job._meta.get_field("user").get_db_prep_value(user, db),
        times.to_db(now - WINDOW, db),
        times.to_db(times.latest_possible(now), db),
    ]
    return [*recent, *recent, settings.JOBS_PER_MINUTE - 1 - retries]
