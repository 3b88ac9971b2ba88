"""How many active jobs a user may have: whoever asks for one more than that is refused.

Two that ask at the same time may both be the last: neither sees the other's job before its commit.
"""

from __future__ import annotations

from typing import Any

from notifications import bulk
from notifications.conf import settings
from notifications.exceptions import TooManyJobs
from notifications.jobs import pace
from notifications.models import Job
from notifications.transactions import connection, kept_until_commit

#: Jobs for which one transaction asks at once whether a user may have them: to ask for each of many would take longer
#: than to insert them.
AT_ONCE = 64
#: Whether a user has no more than so many active jobs.
_FEW = "(SELECT 1 FROM notifications_job WHERE user_id = %s AND seq = 0 LIMIT 1 OFFSET %s) IS NULL"
_COUNT = (
    "SELECT count(*) FROM (SELECT 1 FROM notifications_job WHERE user_id = %s AND seq = 0 LIMIT %s) active"
)


class _Left(dict[Any, int]):
    """How many more jobs users may ask for in one transaction, at least."""


def insert(job: Job) -> None:
    """Insert a new job. Raises ``TooManyJobs`` if its user may have no more."""
    user = job.user_id
    if user is None:
        bulk.insert_one(job)
        return
    left = kept_until_commit(_Left)
    if left.get(user):
        left[user] -= 1
        bulk.insert_one(job)
        return
    limit = settings.ACTIVE_JOBS_PER_USER
    rule, params = pace.rule(user)
    for some in (min(AT_ONCE, limit), 1):
        if bulk.insert_one(job, only=_FEW + rule, params=[_to_db(user), limit - some, *params]):
            left[user] = some - 1
            pace.admit(user)
            return
    if rule and _count(user, limit) < limit:
        pace.refuse_too_many(user)
    raise TooManyJobs(limit)


def refuse_too_many(user: Any, more: int = 1) -> None:
    """Raise ``TooManyJobs`` if a user (key) may not have so many more active jobs, which the caller then makes."""
    kept_until_commit(_Left).pop(user, None)
    limit = settings.ACTIVE_JOBS_PER_USER
    if _count(user, limit) + more > limit:
        raise TooManyJobs(limit)
    pace.refuse_too_many(user)
    pace.admit(user)


def _count(user: Any, limit: int) -> int:
    with connection().cursor() as cursor:
        cursor.execute(_COUNT, [_to_db(user), limit])
        return int(cursor.fetchone()[0])


def _to_db(user: Any) -> Any:
    return Job._meta.get_field("user").get_db_prep_value(user, connection())
