"""The limit of jobs per user and minute that are enqueued by requests, ``NOTIFICATIONS["JOBS_PER_MINUTE"]``.

The jobs of the last minute are counted in the database, by an index, so the limit holds over all processes. The INSERT
of the first job of a request checks it in the same statement. Jobs that are enqueued outside of ``accepted()`` and of
the API for test events of webhooks count, but are never refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any

from notifications import times
from notifications.conf import settings
from notifications.db.transactions import connection
from notifications.exceptions import JobRateExceeded
from notifications.models import Job

#: The minute in which jobs count.
WINDOW = timedelta(minutes=1)

_RECENT_JOBS = "notifications_job WHERE user_id = %s AND created_at > %s AND created_at <= %s"
_IS_BELOW_LIMIT = f" AND (SELECT 1 FROM {_RECENT_JOBS} LIMIT 1 OFFSET %s) IS NULL"
#: The oldest of the jobs that fill the limit: when it leaves the window, another one is allowed.
_BLOCKING_JOB = f"SELECT created_at FROM {_RECENT_JOBS} ORDER BY created_at DESC LIMIT 1 OFFSET %s"

#: The users (keys) for whom this request has enqueued, each with its first job. None outside of a request.
_admitted: ContextVar[dict[Any, Job | None] | None] = ContextVar("notifications_admitted", default=None)


@contextmanager
def limit_request() -> Iterator[dict[Any, Job | None]]:
    """Apply the limit to the block, as one request. Yield the first job that it inserts for each user (key)."""
    admitted: dict[Any, Job | None] = {}
    token = _admitted.set(admitted)
    try:
        yield admitted
    finally:
        _admitted.reset(token)


def insert_condition(user: Any) -> tuple[str, list[Any]]:
    """Return SQL, beginning with AND, and its parameters, under which a job may be inserted for a user (key).

    It is empty outside of a request, and after the request's first job for the user.
    """
    admitted = _admitted.get()
    return (_IS_BELOW_LIMIT, _params(user)) if admitted is not None and user not in admitted else ("", [])


def admit(user: Any, job: Job | None = None) -> None:
    """Check no further jobs of this request for a user (key)."""
    admitted = _admitted.get()
    if admitted is not None:
        admitted.setdefault(user, job)


def raise_if_exceeded(user: Any) -> None:
    """Raise ``JobRateExceeded`` if this request may not enqueue for a user (key)."""
    if not insert_condition(user)[0]:
        return
    with connection().cursor() as cursor:
        cursor.execute(_BLOCKING_JOB, _params(user))
        row = cursor.fetchone()
    if row:
        # SQLite returns text.
        created_at = datetime.fromisoformat(row[0]) if isinstance(row[0], str) else row[0]
        left = times.from_db(created_at, connection()) + WINDOW - times.now()
        retry_after = min(max(1, math.ceil(left.total_seconds())), int(WINDOW.total_seconds()))
        raise JobRateExceeded(settings.JOBS_PER_MINUTE, retry_after)


def _params(user: Any) -> list[Any]:
    db, now = connection(), times.now()
    return [
        Job._meta.get_field("user").get_db_prep_value(user, db),
        times.to_db(now - WINDOW, db),
        times.to_db(times.latest_possible(now), db),
        settings.JOBS_PER_MINUTE - 1,
    ]
