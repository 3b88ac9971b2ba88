"""Delete old jobs and notifications, and what extensions keep for as long.

The floor of a stream rises with the rows that are deleted, so that a client behind it starts from a snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from django.apps import apps
from django.db.models import Exists, OuterRef, Q
from django.utils import translation

from notifications.db.bulk import lock_query
from notifications.db.clock import database_now
from notifications.db.transactions import MAX_ROWS_PER_TRANSACTION, chunks, connection, database, fair_atomic
from notifications.extension import hooks
from notifications.models import Job, Notification
from notifications.streams import purging, raise_floors
from notifications.streams.purging import (
    MAX_USERS_PER_TRANSACTION,
    delete_belongings,
    delete_rows,
    find_deleted_users,
    find_orphans,
    purge_chunk,
)
from notifications.streams.rings import forget_changes


class Pruned(NamedTuple):
    """Rows that are deleted once they are as old as ``RETENTION`` says.

    ``model``
        The label of their model.
    ``column``
        The indexed column of the time from which their age is counted.
    ``words``
        What they are, for the message of ``prune --dry-run``; by default as the model calls them.
    """

    model: str
    column: str
    words: str = ""

    def __str__(self) -> str:
        with translation.override("en"):
            return self.words or str(apps.get_model(self.model)._meta.verbose_name_plural)


#: What is pruned of the core.
JOBS = Pruned("notifications.Job", "finished_at", "finished jobs")
NOTIFICATIONS = Pruned("notifications.Notification", "archived_at", "archived notifications")
SEEN_MARKS = Pruned("notifications.SeenMark", "at", "times at which lists were shown")
#: Those with positions in streams.
NUMBERED = (JOBS, NOTIFICATIONS)
#: Batches within batches that ``count_prunable`` looks up. Jobs of deeper ones count as kept.
MAX_BATCH_DEPTH = 3


class PruneStep(NamedTuple):
    """A function that deletes a chunk of rows and returns how many, with its arguments, of which the last are which."""

    delete: Callable[..., int]
    args: tuple[Any, ...]

    def run(self, run: Callable[[Callable[[], int]], int] = fair_atomic) -> int:
        """Delete a chunk of rows in a transaction and return how many; 0 when the step is done."""
        return run(partial(self.delete, *self.args)) if self.args[-1] else 0


def find_steps(before: datetime, *, finds_orphans: bool = True) -> Iterator[PruneStep]:
    """Yield the steps that delete what ended before a time. Each is done until it deletes nothing.

    They delete archived notifications, ended jobs, and what extensions keep for as long; and rows of deleted users.
    Notifications that are not archived stay.

    ``finds_orphans``
        Whether the tables of extensions are searched for rows whose users, jobs or notifications do not exist.
    """
    for pruned in (JOBS, NOTIFICATIONS, *_pruned_of_extensions(), SEEN_MARKS):
        yield PruneStep(_prune_chunk, (pruned, before))
    for users in find_deleted_users(in_extensions=finds_orphans):
        for group in chunks(users, MAX_USERS_PER_TRANSACTION):
            yield PruneStep(purge_chunk, (tuple(group),))
    if finds_orphans:
        for model, column, keys in find_orphans():
            yield PruneStep(delete_rows, (model, column, tuple(keys)))


def prune_chunks(before: datetime) -> Iterator[int]:
    """Delete what ``find_steps()`` finds, chunk by chunk, and yield the number of rows of each.

    Raises ``django.db.OperationalError`` when the database stays busy; what was deleted until then stays deleted.
    """
    for step in find_steps(before):
        while count := step.run():
            yield count


def prune(before: datetime) -> int:
    """Delete all of that, and return the number of rows."""
    return sum(prune_chunks(before))


def count_prunable(before: datetime) -> Iterator[tuple[str, int]]:
    """Yield what ``prune`` would delete, in the words of a message, and how many rows of it.

    Reads each old row, and streams in chunks. Raises ``django.db.Error``.
    """
    yield str(NOTIFICATIONS), _old_rows(NOTIFICATIONS, before).count()
    jobs = _old_rows(JOBS, before).filter(~Exists(_kept_batches(before, MAX_BATCH_DEPTH)))
    yield str(JOBS), jobs.count()
    for pruned in (*_pruned_of_extensions(), SEEN_MARKS):
        yield str(pruned), _old_rows(pruned, before).count()
    count = 0
    for users in find_deleted_users(in_extensions=False):
        for model in (Job, Notification):
            count += model.objects.using(database()).filter(user__in=users).count()
    yield "jobs and notifications of deleted users", count


def _pruned_of_extensions() -> list[Pruned]:
    return [Pruned(model, column) for model, column in hooks.tables["age"]]


def _old_rows(pruned: Pruned, before: datetime) -> Any:
    return apps.get_model(pruned.model)._default_manager.using(database()).filter(_is_old(pruned, before))


def _is_old(pruned: Pruned, before: datetime) -> Q:
    """Return the condition of the rows that are deleted, of a job once its batch is."""
    is_old = Q(**{f"{pruned.column}__lt": before})
    if pruned in NUMBERED:
        is_old &= Q(seq__isnull=False)
    if pruned is NOTIFICATIONS:
        is_old &= Q(snoozed_until__isnull=True)
    if pruned is JOBS:
        # An idempotency key is stored on its job, which stays until the key expires.
        is_old &= ~Q(idempotency_expires_at__gt=database_now(is_estimate=True))
    return is_old


def _kept_batches(before: datetime, depth: int) -> Any:
    """Return the batch of an outer job if it stays, so that the job stays too."""
    batches = Job.objects.using(database()).filter(id=OuterRef("batch"))
    if depth == 0:
        return batches
    return batches.filter(~_is_old(JOBS, before) | Q(Exists(_kept_batches(before, depth - 1))))


def _prune_chunk(pruned: Pruned, before: datetime) -> int:
    model: Any = apps.get_model(pruned.model)
    old = _old_rows(pruned, before)
    if pruned is JOBS:
        # The jobs of a batch are deleted after it: a batch counts its jobs when it ends, also after a retry.
        old = old.filter(~Exists(Job.objects.using(database()).filter(id=OuterRef("batch"))))
    # In the order of the index: any other would sort all old rows.
    ids = sorted(old.order_by(pruned.column).values_list("pk", flat=True)[:MAX_ROWS_PER_TRANSACTION])
    if pruned not in NUMBERED:
        return int(model._default_manager.using(database()).filter(pk__in=ids).delete()[0])
    rows = _lock(old, ids)
    if not rows:
        return 0
    by_key = {model._meta.pk.get_db_prep_value(row[0], connection()): row for row in rows}
    deleted = [by_key[key] for key in delete_belongings(model, list(by_key))]
    if not deleted:
        return purging.MAX_BELONGINGS_PER_CHUNK
    model.objects.using(database()).filter(id__in=[id for id, _, _ in deleted]).delete()
    floors = _greatest_seqs(deleted)
    raise_floors(floors)
    forget_changes(floors)
    return len(deleted)


def _lock(old: Any, ids: list[Any]) -> list[tuple[Any, Any, int]]:
    """Lock those of these rows that are still old, by id, and skip rows that are locked elsewhere."""
    return list(lock_query(old.filter(id__in=ids).order_by("id")).values_list("id", "user_id", "seq"))


def _greatest_seqs(rows: Iterable[tuple[Any, Any, int]]) -> dict[Any, int]:
    floors: dict[Any, int] = {}
    for _, user, seq in rows:
        if user is not None:
            floors[user] = max(seq, floors.get(user, 0))
    return floors
