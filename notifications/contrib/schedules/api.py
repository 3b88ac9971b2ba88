"""Make, change and delete schedules while the site runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from notifications.db import app_sync_to_async

if TYPE_CHECKING:
    from notifications.contrib.schedules.models import Schedule


def schedule(
    task: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    cron: str = "",
    every: timedelta | None = None,
    owner: Any = None,
    zone: str = "",
    title: str = "",
    key: str = "",
    queue: str = "",
    overlap: str = "skip",
    grace: float = 3600,
) -> Schedule:
    """Store a schedule, which is due from now on, in the transaction of the caller. Return its row.

    ``task``
        A task, or its dotted path. No own task of an app.
    ``cron``, ``every``
        A cron expression of five fields, or an interval.
    ``owner``
        The user to whom the jobs belong, with whom the schedule is deleted.
    ``zone``
        The time zone of ``cron``, by default the ``TIME_ZONE`` of now. ``"owner"`` follows that of the owner.
    ``title``
        What people call it, by default the name of the task.
    ``key``
        Of two schedules of one owner with the same key there is one: the second call changes it.
    ``queue``, ``overlap``, ``grace``
        As in ``NOTIFICATIONS["SCHEDULES"]``.

    Raises ``ValueError`` or ``TypeError`` for what is wrong, and ``TooManySchedules``.
    """
    from notifications.contrib.schedules.drafts import store

    values = {
        "task": task,
        "args": args,
        "kwargs": kwargs or {},
        "cron": cron,
        "every": every,
        "zone": zone,
        "owner": owner,
        "title": title,
        "queue": queue,
        "overlap": overlap,
        "grace": grace,
    }
    return store(values, key)


def update_schedule(row: Schedule, **changes: Any) -> Schedule:
    """Change a stored schedule, in the transaction of the caller. Return its row.

    ``changes``
        Arguments of ``schedule()`` but ``owner`` and ``key``. Where its times change, it is due from now on: what was
        due before is neither enqueued nor missed. A schedule that is paused stays so.

    Raises as ``schedule()`` does but ``TooManySchedules``, and ``ScheduleGone``.
    """
    from notifications.contrib.schedules.drafts import change

    return change(row.name, changes)


def cancel_schedule(row: Schedule) -> bool:
    """Delete a stored schedule, in the transaction of the caller. Jobs that it has enqueued stay.

    Return whether it existed.
    """
    from notifications.contrib.schedules.stored import stored_schedules

    return bool(stored_schedules().filter(name=row.name).delete()[0])


async def aschedule(*args: Any, **kwargs: Any) -> Schedule:
    """See schedule()."""
    return await app_sync_to_async(schedule)(*args, **kwargs)


async def aupdate_schedule(row: Schedule, **changes: Any) -> Schedule:
    """See update_schedule()."""
    return await app_sync_to_async(update_schedule)(row, **changes)


async def acancel_schedule(row: Schedule) -> bool:
    """See cancel_schedule()."""
    return await app_sync_to_async(cancel_schedule)(row)
