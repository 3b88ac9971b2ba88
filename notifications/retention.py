"""Deletes what is old and done with. The floor of its stream rises with it, so that no client overlooks that."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from notifications import streams
from notifications.models import Attempt, Job, Notification
from notifications.transactions import CHUNK, connection, database, paced

#: What has an end, and the column that says when: one with an index.
ENDS: tuple[tuple[Any, str], ...] = ((Job, "finished_at"), (Notification, "archived_at"))


def prune(before: datetime) -> int:
    """Delete notifications archived, and jobs finished, before a time, and what is left of users that do not exist any
    more; return how many.

    What is unread, or read and not archived, stays. A client whose cursor is below a floor starts from a snapshot.
    Raises ``django.db.OperationalError`` when the database stays busy; what was deleted until then stays deleted.
    """
    deleted = 0
    for model, ended in ENDS:
        while count := paced(lambda model=model, ended=ended: _prune_chunk(model, ended, before)):  # type: ignore[misc]
            deleted += count
    return deleted + streams.purge_gone()


def _prune_chunk(model: Any, ended: str, before: datetime) -> int:
    old = model.objects.using(database()).filter(**{f"{ended}__lt": before}, seq__isnull=False)
    # Chosen in the order of their index: another one would sort all that is old.
    rows = _lock(old, sorted(old.order_by(ended).values_list("id", flat=True)[:CHUNK]))
    ids = [id for id, _, _ in rows]
    if model is Job:
        Attempt.objects.using(database()).filter(job__in=ids).delete()
    model.objects.using(database()).filter(id__in=ids).delete()
    streams.raise_floors(_greatest(rows))
    return len(rows)


def _lock(old: Any, ids: list[Any]) -> list[tuple[Any, Any, int]]:
    """Lock these rows by id, if they are old still; those that somebody else holds are left for the next time."""
    rows = old.filter(id__in=ids)
    features = connection().features
    if features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True, no_key=features.has_select_for_no_key_update)
    return list(rows.order_by("id").values_list("id", "user_id", "seq"))


def _greatest(rows: Iterable[tuple[Any, Any, int]]) -> dict[Any, int]:
    floors: dict[Any, int] = {}
    for _, user, seq in rows:
        if user is not None:
            floors[user] = max(seq, floors.get(user, 0))
    return floors
