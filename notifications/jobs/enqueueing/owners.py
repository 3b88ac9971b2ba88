"""The owner of a job is the user who may see it and is notified of its end. See ``context.py`` for who that is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from notifications import context
from notifications.db.transactions import database


def owner_key(owner: Any = None) -> Any:
    """Return the key of the owner of a job that is enqueued now, or None. ``owner`` is that of ``.using()``.

    Raises TypeError or ValueError.
    """
    from notifications.streams.inbox import user_keys_of

    for user in (owner, *context.owners()):
        if user is not None and not getattr(user, "is_anonymous", False):
            keys = user_keys_of(user)
            if len(keys) != 1:
                raise ValueError(f"The owner of a job is one user, not {len(keys)}: {user!r}.")
            return keys[0]
    return None


def read_batch_owners(jobs: Iterable[Any]) -> dict[UUID, Any]:
    """Map the id of each job without a user to the owner of the nearest enclosing batch that has one, else None."""
    from notifications.models import Job

    unowned = [job for job in jobs if job.batch is not None and job.user_id is None]
    owners: dict[Any, Any] = {}
    wanted = {job.batch for job in unowned}
    while wanted:
        rows = Job.objects.using(database()).filter(pk__in=wanted).values_list("id", "user_id", "batch")
        owners |= {id: (user, outer) for id, user, outer in rows}
        wanted = {outer for user, outer in owners.values() if user is None and outer} - owners.keys()
    found: dict[UUID, Any] = {}
    for job in unowned:
        user, outer = owners.get(job.batch, (None, None))
        while user is None and outer in owners:
            user, outer = owners[outer]
        found[job.id] = user
    return found
