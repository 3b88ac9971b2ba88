"""Change a whole inbox: one second of it within the request, the rest in the background.

What is left is stored as a ``PendingMark``, so it survives the process. Every server process and every worker continues
it. They take different rows, and none waits for a row that is locked elsewhere.

All rows that one change marks get the same time, by which exactly these rows are found when it is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from notifications.db.keyset import read_ids
from notifications.db.transactions import database, fair_atomic, retrying_atomic
from notifications.models import PendingMark
from notifications.streams.marking import INVERSE_VERBS, Chunk, Mark, Marked, change_rows

#: Pending marks of a user with which no other change is begun, and changes besides which none is undone.
MAX_PENDING_MARKS_PER_USER = 20
#: The verbs of pending marks that undo another.
UNDOING_VERBS = ("unread", "unarchive")
#: The columns of equal marks, which are one row, and what a row stores besides them.
EQUAL, BOUNDS = ("verb", "moment", "group", "category", "level"), ("after", "up_to")

#: SQL of what is pending of a user, its parameter: NULL, 1 for something, 2 if all that is unread is marked as read.
PENDING_KIND = (
    "(SELECT MAX(CASE WHEN verb = 'read' AND category IS NULL AND level = '' AND \"group\" IS NULL THEN 2 ELSE 1 END) "
    "FROM notifications_pendingmark WHERE user_id = %s)"
)


class TooManyPendingMarks(Exception):
    """``MAX_PENDING_MARKS_PER_USER`` changes of a user, or as many marks, continue in the background."""


def mark_all(
    user: Any,
    verb: str,
    up_to: int,
    *,
    group: str | None = None,
    categories: Sequence[str] = (),
    level: str = "",
) -> Marked:
    """Change by ``"read"`` or ``"archive"`` what was raised up to ``up_to`` for a user (key).

    ``categories``
        Of these only, one mark each; ``()``: of all.

    What is left, above the ``next`` of the result, is changed in the background.
    Raises ``django.db.OperationalError`` when the database stays busy, and ``TooManyPendingMarks``.
    """
    whole = Mark(user=user, verb=verb, up_to=up_to, group=group, level=level)
    return _change_together([replace(whole, category=category) for category in categories or (None,)])


def mark_selected(
    user: Any, verb: str, up_to: int, ids: Collection[UUID], groups: Mapping[str, int]
) -> Marked:
    """Change by ``"read"`` or ``"archive"`` what a user (key) has selected, with one time, by which it is undone.

    ``ids``
        Of notifications that were raised up to ``up_to``.
    ``groups``
        The position up to which those of each group were raised, by its key.

    What is left of groups, above the ``next`` of the result, is changed in the background.
    Raises ``django.db.OperationalError`` when the database stays busy, and ``TooManyPendingMarks``.
    """
    whole = Mark(user=user, verb=verb, up_to=up_to)
    of_groups = [replace(whole, group=key, up_to=raised) for key, raised in groups.items()]
    return _change_together([*([replace(whole, ids=ids)] if ids else []), *of_groups])


def _change_together(marks: Sequence[Mark]) -> Marked:
    """Change rows by marks of one user and verb, with one time. What is left is pending, but for ids."""
    whole = marks[0]
    pending = pending_marks(whole.user)
    if len(pending) >= MAX_PENDING_MARKS_PER_USER:
        raise TooManyPendingMarks
    # Of two equal changes, of which the first is pending, both are undone together.
    for _, earlier in pending:
        for mark in marks:
            is_equal = all(
                getattr(earlier, name) == getattr(mark, name) for name in EQUAL if name != "moment"
            )
            if is_equal and mark.ids is None:
                whole = replace(whole, moment=earlier.moment)
    changed: dict[UUID, int] = {}
    archived = 0
    next: int | None = None
    for mark in marks:
        same = replace(mark, moment=whole.moment)
        if next is None:
            marked = change_rows(same, save_pending if same.ids is None else None)
            changed, next = changed | marked.changed, marked.next
            archived += marked.archived
        else:  # The second of the request is over.
            save_pending(same)
            next = 0
    return Marked(moment=whole.moment, changed=changed, archived=archived, next=next)


def undo_mark(user: Any, verb: str, moment: datetime, after: int, up_to: int) -> Marked:
    """Undo ``mark_all`` for a user (key): change back the rows that have its time, and stop it if it is pending.

    ``verb``
        The verb that is undone.
    ``after``, ``up_to``
        The rows were raised above the first and up to the second.

    A notification that a newer one with its key has replaced stays archived.
    Raises ``django.db.OperationalError`` when the database stays busy, and ``TooManyPendingMarks``.
    """
    # The change itself, and an undo of it that is pending, are stopped or continued.
    others = {mark.moment for _, mark in pending_marks(user)} - {moment}
    if len(others) >= MAX_PENDING_MARKS_PER_USER:
        raise TooManyPendingMarks
    marks = PendingMark.objects.using(database()).filter(user=user, moment=moment)
    retrying_atomic(lambda: marks.filter(verb=verb).delete())
    inverse = INVERSE_VERBS[verb]
    mark = Mark(user=user, verb=inverse, moment=moment, after=after, up_to=up_to, is_undo=True)
    return change_rows(mark, save_pending)


def find_pending() -> Iterator[int]:
    """Yield the ids of pending marks, those first of whom least is changed."""
    yield from read_ids(PendingMark, "1 = 1", (), "after")


def continue_marking(
    ids: Sequence[int], run: Callable[[Callable[[], bool]], bool] = fair_atomic
) -> list[int]:
    """Continue pending marks, by a chunk each. Return those of which more is to be changed.

    ``run`` runs a function in a transaction. A mark whose rows are locked elsewhere is left to a later search.
    """
    rows = PendingMark.objects.using(database()).filter(id__in=ids)
    return [row.id for row in rows if _continue(row.id, _mark_of(row), run)]


def pending_condition() -> tuple[str, Sequence[Any]]:
    """Return SQL that is true if ``find_pending`` finds something, and its parameters."""
    return "EXISTS (SELECT 1 FROM notifications_pendingmark)", ()


def pending_marks(user: Any = None) -> list[tuple[int, Mark]]:
    """Return pending marks by their ids: of one user (key), or all, those first of whom least is changed."""
    rows = PendingMark.objects.using(database()).order_by("after", "id")
    if user is not None:
        rows = rows.filter(user=user)
    return [(row.id, _mark_of(row)) for row in rows]


def _mark_of(row: PendingMark) -> Mark:
    values = {name: getattr(row, name) for name in EQUAL + BOUNDS}
    return Mark(user=row.user_id, is_undo=row.verb in UNDOING_VERBS, **values)


def save_pending(mark: Mark) -> None:
    """Store that a mark is to be continued in the background. An equal one that is pending is extended."""

    def save() -> None:
        rows = PendingMark.objects.using(database())
        values = {name: getattr(mark, name) for name in EQUAL}
        same = rows.filter(user=mark.user, **values)
        row = same.select_for_update(no_key=True).order_by("id").first()
        if row is None:
            rows.create(user_id=mark.user, **values, **{name: getattr(mark, name) for name in BOUNDS})
        else:
            same.filter(pk=row.pk).update(after=min(row.after, mark.after), up_to=max(row.up_to, mark.up_to))

    retrying_atomic(save)


def _continue(id: int, mark: Mark, run: Callable[[Callable[[], bool]], bool]) -> bool:
    """Change a chunk of a pending mark; return whether rows were changed or passed."""
    chunk = Chunk(mark)

    def change_chunk() -> bool:
        rows = PendingMark.objects.using(database())
        same = rows.filter(pk=id, **{name: getattr(mark, name) for name in BOUNDS})
        # One that another process continues is skipped. One that deletes it, to undo it, waits for this chunk.
        if same.select_for_update(skip_locked=True, no_key=True).first() is None:
            return False
        chunk.change()
        if chunk.position >= mark.up_to:
            same.delete()
        else:
            same.update(after=chunk.position)
        return chunk.has_advanced

    return run(change_chunk)
