"""Change a whole inbox: one second of it within the request, the rest in the background.

What is left is stored as a ``PendingMark``, so it survives the process. Every server process and every worker continues
it. They take different rows, and none waits for a row that is locked elsewhere.

All rows that one change marks get the same time, by which exactly these rows are found when it is undone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from notifications import streams, times
from notifications.db.transactions import (
    MAX_ROWS_PER_TRANSACTION,
    connection,
    database,
    fair_atomic,
    retrying_atomic,
)
from notifications.models import Notification, PendingMark
from notifications.streams import listing
from notifications.streams.inbox import VERBS
from notifications.streams.replaced import without_replaced

#: Seconds for which a request changes rows.
REQUEST_SECONDS = 1.0
#: Pending marks that one round continues, and that one user can have.
MAX_PENDING_MARKS, MAX_PENDING_MARKS_PER_USER = 100, 20
#: Rows that one transaction reads to find those that a filter selects.
MAX_ROWS_EXAMINED = 1_000

#: The verb that undoes each verb that sets a time.
UNDOING_VERBS = {"read": "unread", "archive": "unarchive"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A change of all notifications of a user (key) that were raised above ``after`` and up to ``up_to``.

    ``verb``
        One of ``inbox.VERBS``. ``"read"`` changes those that are in the inbox and in the archive.
    ``moment``
        The time that ``verb`` sets. A verb that clears a time changes only notifications that have this one.
    ``category``, ``level``
        Notifications of these only; None and ``""``: of all.
    """

    user: Any
    verb: str
    moment: datetime
    up_to: int
    after: int = 0
    category: str | None = None
    level: str = ""

    @property
    def is_undo(self) -> bool:
        return not VERBS[self.verb][1]

    @property
    def is_filtered(self) -> bool:
        return self.is_undo or self.category is not None or self.level != ""

    def selects(self, row: tuple[Any, ...]) -> bool:
        """Return whether the filters select a row of ``_read_window``."""
        _, _, category, level, moment = row
        return (
            self.category in (None, category)
            and self.level in ("", level)
            and (not self.is_undo or times.as_utc(moment) == self.moment)
        )


class TooManyPendingMarks(Exception):
    """A user has ``MAX_PENDING_MARKS_PER_USER`` changes that continue in the background."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Marked:
    """What a request has done.

    ``moment``, ``after``
        The time of the rows that were changed, and the position above which they are: for ``undo_mark``.
    ``count``
        How many were changed.
    ``is_pending``
        Whether the rest is changed in the background.
    """

    moment: datetime
    after: int
    count: int
    is_pending: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chunk:
    """What one transaction has done.

    ``position``
        Everything up to it is changed; None if nothing is left.
    ``first``
        The ``raised`` of the first row that was changed.
    """

    position: int | None
    count: int = 0
    first: int | None = None


def mark_all(user: Any, verb: str, up_to: int, *, category: str | None = None, level: str = "") -> Marked:
    """Change by ``"read"`` or ``"archive"`` what was raised up to ``up_to`` for a user (key).

    Raises ``django.db.OperationalError`` when the database stays busy, and ``TooManyPendingMarks``.
    """
    mark = Mark(user=user, verb=verb, moment=times.now(), up_to=up_to, category=category, level=level)
    pending = pending_marks(user)
    if len(pending) >= MAX_PENDING_MARKS_PER_USER:
        raise TooManyPendingMarks
    # Of two equal changes, of which the first is pending, both are undone together.
    for _, earlier in pending:
        if (earlier.verb, earlier.category, earlier.level) == (verb, category, level):
            mark = replace(mark, moment=earlier.moment)
    return _mark_for_a_second(mark)


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
    others = [mark for _, mark in pending_marks(user) if mark.moment != moment]
    if len(others) >= MAX_PENDING_MARKS_PER_USER:
        raise TooManyPendingMarks
    marks = PendingMark.objects.using(database()).filter(user=user, moment=moment)
    retrying_atomic(lambda: marks.filter(verb=verb).delete())
    return _mark_for_a_second(
        Mark(user=user, verb=UNDOING_VERBS[verb], moment=moment, after=after, up_to=up_to)
    )


def continue_marking(seconds: float, run: Callable[[Callable[[], bool]], bool] = fair_atomic) -> bool:
    """Continue pending marks for about ``seconds``, and at least one chunk that is not locked elsewhere.

    ``run`` runs a function in a transaction. Returns whether there is more to change.
    """
    stop_at = time.monotonic() + seconds
    while pending := pending_marks():
        any_advanced = False
        for id, _ in pending:
            any_advanced |= run(lambda id=id: _continue(id))  # type: ignore[misc]
            # Not before rows were changed, or an inbox whose rows are locked would hold up those behind it.
            if any_advanced and time.monotonic() >= stop_at:
                return True
        if not any_advanced:
            return False
    return False


def pending_marks(user: Any = None) -> list[tuple[int, Mark]]:
    """Return pending marks by their ids: of one user (key), or those of whom least is changed."""
    rows = PendingMark.objects.using(database()).order_by("after", "id")
    if user is not None:
        rows = rows.filter(user=user)
    return [(row.id, _mark_of(row)) for row in rows[:MAX_PENDING_MARKS]]


def save_pending(mark: Mark) -> None:
    """Store that a mark is to be continued in the background. An equal one that is pending is extended."""

    def save() -> None:
        rows = PendingMark.objects.using(database())
        same = rows.filter(
            user=mark.user, verb=mark.verb, moment=mark.moment, category=mark.category, level=mark.level
        )
        row = same.select_for_update(no_key=connection().vendor == "postgresql").order_by("id").first()
        if row is None:
            rows.create(
                user_id=mark.user,
                **{
                    name: getattr(mark, name)
                    for name in ("verb", "moment", "category", "level", "after", "up_to")
                },
            )
        else:
            same.filter(pk=row.pk).update(after=min(row.after, mark.after), up_to=max(row.up_to, mark.up_to))

    retrying_atomic(save)


def _mark_for_a_second(mark: Mark) -> Marked:
    stop_at = time.monotonic() + REQUEST_SECONDS
    count, first, advanced = 0, None, True
    is_pending = True
    while advanced and is_pending and time.monotonic() < stop_at:
        if mark.is_filtered:
            mark = _pass_unselected(mark, stop_at)
        chunk = fair_atomic(lambda mark=mark: _mark_chunk(mark))  # type: ignore[misc]
        count += chunk.count
        first = first or chunk.first
        if chunk.position is None:
            is_pending = False
        else:
            advanced = chunk.count > 0 or chunk.position > mark.after
            mark = replace(mark, after=chunk.position)
    if is_pending:
        save_pending(mark)
    return Marked(
        moment=mark.moment,
        after=(mark.after if first is None else first - 1),
        count=count,
        is_pending=is_pending,
    )


def _pass_unselected(mark: Mark, stop_at: float) -> Mark:
    """Return the mark from the first row on that its filters select, which is searched without SQLite's lock."""
    while time.monotonic() < stop_at:
        window = _read_window(mark, MAX_ROWS_EXAMINED)
        first = next((row for row in window if mark.selects(row)), None)
        if first is not None:
            return replace(mark, after=first[0] - 1)
        if len(window) < MAX_ROWS_EXAMINED:
            break
        mark = replace(mark, after=window[-1][0])
    return mark


def _continue(id: int) -> bool:
    """Change a chunk of a pending mark; return whether rows were changed or passed."""
    db = connection()
    rows = PendingMark.objects.using(db.alias).filter(pk=id)
    if db.features.has_select_for_update_skip_locked:
        # A process that deletes it, to undo it, waits for this chunk.
        rows = rows.select_for_update(skip_locked=True, no_key=True)
    row = rows.first()
    if row is None:
        return False
    chunk = _mark_chunk(_mark_of(row))
    if chunk.position is None:
        PendingMark.objects.using(db.alias).filter(pk=id).delete()
    else:
        PendingMark.objects.using(db.alias).filter(pk=id).update(after=chunk.position)
    return chunk.count > 0 or (chunk.position is not None and chunk.position > row.after)


def _mark_of(row: PendingMark) -> Mark:
    return Mark(
        user=row.user_id,
        verb=row.verb,
        moment=row.moment,
        up_to=row.up_to,
        after=row.after,
        category=row.category,
        level=row.level,
    )


def _mark_chunk(mark: Mark) -> _Chunk:
    """Change the oldest rows above ``mark.after``, but those that are locked elsewhere."""
    db = connection()
    field, is_set = VERBS[mark.verb]
    limit = MAX_ROWS_EXAMINED if mark.is_filtered else MAX_ROWS_PER_TRANSACTION
    window = _read_window(mark, limit)
    selected = [row for row in window if mark.selects(row)]
    oldest = selected[:MAX_ROWS_PER_TRANSACTION]
    if len(selected) > len(oldest):
        end: int | None = oldest[-1][0]
    else:
        end = window[-1][0] if len(window) == limit else None
    if not oldest:
        return _Chunk(position=end)
    lockable = Notification.objects.using(db.alias).filter(
        id__in=[id for _, id, *_ in oldest], **{f"{field}__isnull": is_set}
    )
    if mark.is_undo:
        lockable = lockable.filter(**{field: mark.moment})
    if db.features.has_select_for_update_skip_locked:
        lockable = lockable.select_for_update(skip_locked=True, no_key=True)
    locked = list(lockable.order_by("id").only("id", "key", "raised"))
    ids = {row.id for row in locked}
    if mark.verb == "unarchive":
        locked = without_replaced(mark.user, locked)
    Notification.objects.using(db.alias).filter(id__in=[row.id for row in locked]).update(
        **{field: mark.moment if is_set else None}, seq=None
    )
    streams.number_in_transaction([mark.user])
    first_skipped = next((raised for raised, id, *_ in oldest if id not in ids), None)
    return _Chunk(
        position=end if first_skipped is None else first_skipped - 1,
        count=len(locked),
        first=min((row.raised for row in locked), default=None),
    )


def _read_window(mark: Mark, limit: int) -> list[tuple[Any, ...]]:
    """Return raised, id, category, level and time of the ``limit`` oldest rows that ``mark.verb`` can change."""
    field, is_set = VERBS[mark.verb]
    rows = Notification.objects.using(connection().alias).filter(
        user=mark.user, raised__gt=mark.after, raised__lte=mark.up_to
    )
    state = "read" if field == "read_at" else "archived"
    found: list[tuple[Any, ...]] = []
    for partition in listing.partitions(**{state: not is_set}):
        found += (
            rows.filter(partition)
            .order_by("raised")
            .values_list("raised", "id", "category", "level", field)[:limit]
        )
    found.sort(key=lambda row: row[0])
    return found[:limit]
