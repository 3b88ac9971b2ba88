"""How many active jobs a user may have: whoever asks for one more than that is refused.

To look for each of many jobs whether its user may have it takes longer than to insert it. So after a look at a user who
has no more than half of what is allowed, a process takes the next ones without a look, up to a sixteenth, for a moment:
eight processes at the same time stay within the limit together. Beyond half there is a look for each job; where one of
them asks for hundreds in that moment, what the others may take without a look comes on top.
Two that ask at the same time may both be the last: neither sees the other's job before its commit.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from notifications.conf import settings
from notifications.db import bulk
from notifications.db.transactions import connection
from notifications.db.user_keys import to_db
from notifications.exceptions import TooManyJobs
from notifications.jobs.enqueueing import rate_limit
from notifications.models import Job

#: Seconds for which a look at a user's active jobs holds, and users of whom one is remembered at most.
COUNT_VALID_SECONDS, MAX_USERS_REMEMBERED = 0.25, 10_000
#: Whether a user has no more than so many active jobs.
_FEW = "(SELECT 1 FROM notifications_job WHERE user_id = %s AND seq = 0 LIMIT 1 OFFSET %s) IS NULL"
_COUNT = (
    "SELECT count(*) FROM (SELECT 1 FROM notifications_job WHERE user_id = %s AND seq = 0 LIMIT %s) active"
)

_lock = threading.Lock()
#: By database, user and limit: how many more jobs need no look (-1: each one needs it), and until when (monotonic).
_counts: dict[tuple[str, Any, int], tuple[int, float]] = {}


def insert(job: Job) -> None:
    """Insert a new job. Raises ``TooManyJobs`` if its user may have no more."""
    user = job.user_id
    if user is None:
        bulk.insert_one(job)
        return
    limit = settings.ACTIVE_JOBS_PER_USER
    look = connection().alias, user, limit
    rule, params = rate_limit.rule(user)
    left = 0 if rule else _take(look)
    if left > 0:
        bulk.insert_one(job)
        return

    def insert_beside(others: int) -> bool:
        """Insert it if the user has no more active jobs than these."""
        return bulk.insert_one(job, only=_FEW + rule, params=[to_db(user), others, *params])

    some = limit // 16
    if some and not left and insert_beside(limit // 2):
        _remember(look, some - 1)
    elif insert_beside(limit - 1):
        _remember(look, -1)
    else:
        if rule and _count(user, limit) < limit:
            rate_limit.refuse_too_many(user)
        raise TooManyJobs(limit)
    rate_limit.admit(user, job)


def refuse_too_many(user: Any, more: int = 1) -> None:
    """Raise ``TooManyJobs`` if a user (key) may not have so many more active jobs, which the caller then makes."""
    limit = settings.ACTIVE_JOBS_PER_USER
    with _lock:
        _counts.pop((connection().alias, user, limit), None)
    if _count(user, limit) + more > limit:
        raise TooManyJobs(limit)
    rate_limit.refuse_too_many(user)
    rate_limit.admit(user)


def _take(look: tuple[str, Any, int]) -> int:
    """Take one of the jobs that need no look, and return how many there were; 0 when it is time to look again."""
    with _lock:
        left, until = _counts.get(look, (0, 0.0))
        if time.monotonic() > until:
            return 0
        if left > 0:
            _counts[look] = left - 1, until
        return left


def _remember(look: tuple[str, Any, int], left: int) -> None:
    with _lock:
        if len(_counts) >= MAX_USERS_REMEMBERED:
            _counts.clear()
        _counts[look] = left, time.monotonic() + COUNT_VALID_SECONDS


def _count(user: Any, limit: int) -> int:
    with connection().cursor() as cursor:
        cursor.execute(_COUNT, [to_db(user), limit])
        return int(cursor.fetchone()[0])
