"""Deletes what is old and done with. The floor of its stream rises with it, so that no client overlooks that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

from django.db.models import Exists, OuterRef

from notifications import times
from notifications.db.transactions import MAX_ROWS_PER_TRANSACTION, connection, database, fair_atomic
from notifications.models import Attempt, Job, Notification
from notifications.streams import raise_floors
from notifications.streams.purging import gone, purge_chunk

#: What has an end, and the column that says when: one with an index.
ENDS: tuple[tuple[Any, str], ...] = ((Job, "finished_at"), (Notification, "archived_at"))


def prune(before: datetime) -> int:
    """Delete notifications archived, and jobs finished, before a time, and what is left of users that do not exist any
    more; return how many.

    What is unread, or read and not archived, stays. A client whose cursor is below a floor starts from a snapshot.
    Raises ``django.db.OperationalError`` when the database stays busy; what was deleted until then stays deleted.
    """
    pruning = Pruning(before)
    deleted = 0
    while (count := pruning.some()) is not None:
        deleted += count
    return deleted


class Pruning:
    """What ``prune`` does, in small transactions, for somebody who does other things in between.

    ``run`` runs a transaction; that of bulk writes leaves SQLite's lock to others after each.
    """

    def __init__(self, before: datetime, run: Callable[[Callable[[], int]], int] = fair_atomic) -> None:
        self._before = before
        self._run = run
        self._steps = self._all()

    def some(self) -> int | None:
        """Delete a few rows and return how many; None when nothing is left to do."""
        return next(self._steps, None)

    def _all(self) -> Iterator[int]:
        for model, ended in ENDS:
            yield from self._until_none(partial(_prune_chunk, model, ended, self._before))
        for users in gone():
            yield 0  # a look at streams is enough for once
            for user in users:
                yield from self._until_none(partial(purge_chunk, user))

    def _until_none(self, work: Callable[[], int]) -> Iterator[int]:
        while count := self._run(work):
            yield count


def _prune_chunk(model: Any, ended: str, before: datetime) -> int:
    old = model.objects.using(database()).filter(**{f"{ended}__lt": before}, seq__isnull=False)
    if model is Job:
        # What is in a batch goes after it: a batch counts its jobs when it ends, also when it is tried again.
        old = old.filter(~Exists(Job.objects.using(database()).filter(id=OuterRef("batch"))))
        # A key is kept for its time, and the job is where it is kept.
        old = old.exclude(idempotency_expires_at__gt=times.now())
    # Chosen in the order of their index: another one would sort all that is old.
    rows = _lock(old, sorted(old.order_by(ended).values_list("id", flat=True)[:MAX_ROWS_PER_TRANSACTION]))
    ids = [id for id, _, _ in rows]
    if model is Job:
        Attempt.objects.using(database()).filter(job__in=ids).delete()
    model.objects.using(database()).filter(id__in=ids).delete()
    raise_floors(_greatest(rows))
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
