"""Store what becomes of deliveries: postponed, sent, skipped or failed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from notifications import times, validators
from notifications.contrib.deliveries.models import Delivery, Reader
from notifications.contrib.deliveries.preferences import is_paused
from notifications.contrib.deliveries.quiet_hours import quiet_until
from notifications.db import chunks, database, database_now, fair_atomic, lock_query

State: Any = Delivery.State
MAX_ERROR_LENGTH = 500


def postpone_paused(rows: Sequence[Delivery]) -> None:
    """Have deliveries decided anew when the pauses or quiet hours of their users end.

    In the transaction that has read these.
    """
    by_user: dict[Any, list[UUID]] = {}
    for row in rows:
        by_user.setdefault(row.user_id, []).append(row.id)
    for user, ids in by_user.items():
        # Locked, and read again: a request that ends the pause meanwhile finds these rows, or is found here.
        reader = lock_query(Reader.objects.using(database()).filter(user=user), skip_locked=False).first()
        now = database_now()
        until = reader and ((is_paused(reader, now) and reader.paused_until) or quiet_until(reader, now))
        postpone(ids, until or times.now())


def reopen(ids: Sequence[UUID]) -> None:
    """Have deliveries decided anew now, as due since when they were due."""
    if ids:
        store(ids, error="", state=State.PENDING, job=None, ended_at=None)


def postpone(ids: Sequence[UUID], until: datetime) -> None:
    """Have deliveries decided anew at a time."""
    if ids:
        store(ids, error="", state=State.PENDING, due_at=until, job=None, ended_at=None)


def end(
    ids: Sequence[UUID],
    state: str,
    *,
    of_job: UUID | None = None,
    reason: str = "",
    error: str = "",
) -> None:
    """Store how deliveries have ended; with ``of_job``, only of those that still have this job."""
    store(ids, of_job=of_job, state=state, reason=reason, error=error, ended_at=times.now())


def fail(ids: Sequence[UUID], job: UUID, error: str) -> None:
    """Store that deliveries have failed for good, but of those that have ended or have another job meanwhile."""
    queued = Delivery.objects.using(database()).filter(state=State.QUEUED, job=job)
    failed = {"state": State.FAILED, "reason": "", "error": storable(error), "ended_at": times.now()}
    update(queued, ids, **failed)


def store(ids: Sequence[UUID], *, error: str, of_job: UUID | None = None, **values: Any) -> None:
    """Store what became of deliveries, but of those that were sent, and that were deleted meanwhile.

    ``of_job``
        Only of those that still have this job.
    """
    rows = Delivery.objects.using(database()).exclude(state=State.SENT)
    if of_job is not None:
        rows = rows.filter(job=of_job)
    update(rows, ids, error=storable(error), **values)


def update(rows: QuerySet[Delivery], ids: Sequence[UUID], **values: Any) -> None:
    """Update those of these rows that have one of the ids, in short transactions."""
    for chunk in chunks(ids):
        chosen = rows.filter(id__in=chunk)
        fair_atomic(lambda chosen=chosen: chosen.update(**values))  # type: ignore[misc]


def storable(error: str) -> str:
    return validators.shortened(validators.printable(error), MAX_ERROR_LENGTH)
