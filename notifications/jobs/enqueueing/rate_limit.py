"""How often a user may ask in requests: counted are their jobs of the last minute, by an index, in every process.

The statement that inserts the first job of a request counts too. What code enqueues elsewhere is counted, and never
refused.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from notifications.conf import settings
from notifications.db.transactions import connection
from notifications.exceptions import JobRateExceeded
from notifications.models import Job

#: Seconds in which jobs are counted.
WINDOW_SECONDS = 60

# Ids begin with the milliseconds of their making.
_RECENT = "notifications_job WHERE user_id = %s AND id > %s"
_FEW = f" AND (SELECT 1 FROM {_RECENT} LIMIT 1 OFFSET %s) IS NULL"
_LAST = f"SELECT id FROM {_RECENT} ORDER BY id DESC LIMIT 1 OFFSET %s"

#: The users (keys) who have got a job in this request already, and the first one of each; None outside a request.
_admitted: ContextVar[dict[Any, Job | None] | None] = ContextVar("notifications_admitted", default=None)


@contextmanager
def counted() -> Iterator[dict[Any, Job | None]]:
    """Count what is enqueued inside as one request. Gives the first job that was inserted for each user (key)."""
    admitted: dict[Any, Job | None] = {}
    token = _admitted.set(admitted)
    try:
        yield admitted
    finally:
        _admitted.reset(token)


def rule(user: Any) -> tuple[str, list[Any]]:
    """Return SQL to be added to a condition, and its parameters, under which a user (key) may get a job here."""
    admitted = _admitted.get()
    return (_FEW, _params(user)) if admitted is not None and user not in admitted else ("", [])


def admit(user: Any, job: Job | None = None) -> None:
    """Note that a user (key) has got a job here: what else this request enqueues is not counted anew."""
    admitted = _admitted.get()
    if admitted is not None:
        admitted.setdefault(user, job)


def refuse_too_many(user: Any) -> None:
    """Raise ``JobRateExceeded`` if the ``rule`` does not hold for a user (key)."""
    if not rule(user)[0]:
        return
    with connection().cursor() as cursor:
        cursor.execute(_LAST, _params(user))
        found = cursor.fetchone()
    if found:
        made = (found[0] if isinstance(found[0], UUID) else UUID(found[0])).int >> 80
        left = WINDOW_SECONDS - (time.time() - made / 1000)
        raise JobRateExceeded(settings.JOBS_PER_MINUTE, min(max(1, math.ceil(left)), WINDOW_SECONDS))


def _params(user: Any) -> list[Any]:
    db = connection()
    since = UUID(int=max(0, int((time.time() - WINDOW_SECONDS) * 1000)) << 80)
    return [
        Job._meta.get_field("user").get_db_prep_value(user, db),
        Job._meta.pk.get_db_prep_value(since, db),
        settings.JOBS_PER_MINUTE - 1,
    ]
