"""Mark notifications as read, unread, archived or unarchived: those with some ids, a category or level, or all.

``change_rows`` changes them in chunks, those raised first, and numbers each chunk in its transaction. After a number of
rows the client of the API continues, because it is promised what a request has done; after a number of seconds a duty
does, which ``marking_all.py`` gives the rest of a whole inbox.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Max, QuerySet
from django.db.models.functions import Coalesce

from notifications import streams, times
from notifications.db.bulk import lock_query
from notifications.db.dialects import dialect_of
from notifications.db.transactions import (
    MAX_ROWS_PER_TRANSACTION,
    connection,
    database,
    dialect,
    fair_atomic,
    in_callers_transaction,
    on_commit,
)
from notifications.models import Notification
from notifications.streams import listing

#: The column that each verb changes, and whether it is set to the time (or to NULL).
VERBS = {
    "read": ("read_at", True),
    "unread": ("read_at", False),
    "archive": ("archived_at", True),
    "unarchive": ("archived_at", False),
}
#: The verb that undoes each verb.
INVERSE_VERBS = {"read": "unread", "unread": "read", "archive": "unarchive", "unarchive": "archive"}
#: Rows that one call of ``mark`` changes at most, and rows of each partition that are read at once for filters.
MAX_MARKED_ROWS, MAX_ROWS_EXAMINED = 1_000, 5_000
#: Seconds to wait for a row that another transaction holds.
LOCK_WAIT_SECONDS = 5
#: Seconds for which a request changes rows if a duty changes the rest.
REQUEST_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A change of the notifications of a user (key) that were raised above ``after`` and up to ``up_to``.

    ``verb``
        One of ``VERBS``. It changes what is not in its state yet; ``"read"`` in the inbox and in the archive.
    ``ids``, ``group``, ``category``, ``level``
        Those with one of these ids, those of this group in the inbox, of this category and of this level only; None and
        ``""``: all.
    ``until``
        When what it archives is raised again, None for never.
    ``moment``, ``is_undo``
        The time that ``verb`` sets; with ``is_undo`` it clears this time, and no other.
    """

    user: Any
    verb: str
    up_to: int
    after: int = 0
    ids: Collection[UUID] | None = None
    group: str | None = None
    category: str | None = None
    level: str = ""
    until: datetime | None = None
    moment: datetime = field(default_factory=times.now)
    is_undo: bool = False

    @property
    def is_filtered(self) -> bool:
        """Whether rows are read that it does not change, because no index finds those that it changes."""
        return self.ids is None and (self.is_undo or self.category is not None or self.level != "")

    @property
    def state(self) -> dict[str, Any]:
        """The condition of the rows that ``verb`` changes, on its column."""
        column, is_set = VERBS[self.verb]
        return {column: self.moment} if self.is_undo else {f"{column}__isnull": is_set}


@dataclass(frozen=True, kw_only=True, slots=True)
class Marked:
    """What a call has done.

    ``moment``
        The time of the rows that were changed.
    ``changed``
        The ``raised`` of each of these rows, by its id.
    ``archived``
        How many of these were in the archive, which no count of what is unread has.
    ``next``
        The position above which the caller continues, None if nothing is left.
    """

    moment: datetime
    changed: dict[UUID, int] = field(default_factory=dict)
    archived: int = 0
    next: int | None = None

    @property
    def after(self) -> int:
        """The position above which these rows are, and those that are left."""
        positions = [raised - 1 for raised in self.changed.values()]
        return min(positions if self.next is None else [*positions, self.next], default=0)


def mark(
    user: Any,
    verb: str,
    up_to: int,
    ids: Collection[UUID] | None = None,
    *,
    after: int = 0,
    group: str | None = None,
    category: str | None = None,
    level: str = "",
    changed_at: datetime | None = None,
) -> Marked:
    """Change at most ``MAX_MARKED_ROWS`` notifications of a user (key), those raised first: see ``Mark``.

    ``changed_at``
        Only those to which the inverse of ``verb`` has given this time.

    With a category, level or time it reads at most ``MAX_ROWS_EXAMINED`` of each partition. All rows have their number
    when it returns. Inside a caller's transaction this is deferred until after its commit.
    Raises ``django.db.OperationalError`` where another transaction holds a row for over 5 s.
    """
    mark = Mark(
        user=user,
        verb=verb,
        up_to=up_to,
        after=after,
        ids=ids,
        group=group,
        category=category,
        level=level,
        moment=changed_at or times.now(),
        is_undo=changed_at is not None,
    )
    if in_callers_transaction():
        on_commit(lambda: change_rows(mark))
        return Marked(moment=mark.moment)
    return change_rows(mark)


def change_rows(mark: Mark, save_remaining: Callable[[Mark], object] | None = None) -> Marked:
    """Change rows, within the bounds of ``mark()``.

    ``save_remaining``
        Called with what this has not changed within ``REQUEST_SECONDS``, its only bound then, so that a duty changes
        it. That includes rows that are locked elsewhere, for which this does not wait.
    """
    waits = save_remaining is None
    max_rows, seconds = (MAX_MARKED_ROWS, math.inf) if waits else (math.inf, REQUEST_SECONDS)
    most = MAX_MARKED_ROWS if waits else MAX_ROWS_PER_TRANSACTION
    chunk_rows = dialect().rows_per_transaction(most, one_writer=MAX_ROWS_PER_TRANSACTION)
    bounded = replace(mark, up_to=_find_window_end(mark)) if waits else mark
    stop_at = time.monotonic() + seconds
    position, may_be_unnumbered = mark.after, False
    changed: dict[UUID, int] = {}
    archived = 0
    while position < bounded.up_to and len(changed) < max_rows and time.monotonic() < stop_at:
        limit = int(min(chunk_rows, max_rows - len(changed)))
        chunk = Chunk(replace(bounded, after=position), limit, waits=waits)
        if chunk.rows:
            fair_atomic(chunk.change)
        if chunk.changed:
            changed |= chunk.changed
            archived += chunk.archived
            may_be_unnumbered = chunk.may_be_unnumbered
        position = chunk.position
        if not chunk.has_advanced:  # its first row is locked elsewhere
            break
    has_more = position < mark.up_to
    if may_be_unnumbered:
        streams.number([mark.user], more_follows=has_more)
    if save_remaining and has_more:
        save_remaining(replace(mark, after=position))
    return Marked(moment=mark.moment, changed=changed, archived=archived, next=position if has_more else None)


class Chunk:
    """The rows that a mark changes first, at most ``limit``, and what their transaction has done.

    They are read before it, because it holds SQLite's lock, and their state is checked in it.

    ``waits``
        For rows that are locked elsewhere, up to 5 s. Otherwise they are left for later.
    ``changed``, ``archived``, ``position``
        The ``raised`` of each row that was changed, by its id; how many of these were in the archive; everything up to
        this position is changed.
    ``may_be_unnumbered``
        The pass of numbering was full, so more rows may be pending.
    """

    def __init__(self, mark: Mark, limit: int = MAX_ROWS_PER_TRANSACTION, *, waits: bool = False) -> None:
        self.mark, self.waits = mark, waits
        self.rows, self.end = _select(mark, limit)
        self.position = self.end
        self.changed: dict[UUID, int] = {}
        self.archived = 0
        self.may_be_unnumbered = False

    @property
    def has_advanced(self) -> bool:
        return bool(self.changed) or self.position > self.mark.after

    def change(self) -> bool:
        """Change the rows, as the last act of a transaction of the app's own. Returns True: others may follow."""
        db, mark = connection(), self.mark
        if self.waits:
            dialect_of(db).limit_lock_wait(db, LOCK_WAIT_SECONDS)
        rows = Notification.objects.using(db.alias).filter(id__in=[id for _, id in self.rows], **mark.state)
        # An UPDATE locks in no order, so the rows are locked first, by id.
        rows = rows.select_for_update(skip_locked=not self.waits, no_key=True).order_by("id")
        locked = list(rows.only("id", "key", "raised", "open_question", "archived_at"))
        if not self.waits:
            ids = {row.id for row in locked}
            self.position = next((raised - 1 for raised, id in self.rows if id not in ids), self.end)
        # A question stays unread in the inbox until it is answered, by anyone.
        locked = [row for row in locked if row.open_question is None]
        if mark.verb == "unarchive":
            locked = without_replaced(mark.user, locked)
        self.changed = {row.id: row.raised for row in locked}
        self.archived = sum(row.archived_at is not None for row in locked)
        if locked:
            column, is_set = VERBS[mark.verb]
            rows = Notification.objects.using(db.alias).filter(id__in=self.changed)
            values = {column: mark.moment if is_set else None}
            if column == "archived_at":
                values["snoozed_until"] = mark.until
            if mark.until is not None:
                values["snoozed_at"] = mark.moment
            rows.update(**values, seq=None)
            self.may_be_unnumbered = streams.number_in_transaction([mark.user])
        return True


def close(ids: Collection[UUID], moment: datetime, others: Collection[UUID] = ()) -> set[Any]:
    """Mark notifications as read, without their actions, and for good: those that are snoozed are not raised again.

    Inside a transaction, before any stream is locked. Returns the keys of their users, whose rows it then numbers.

    ``others``
        The ids of those that the transaction changes afterwards. All are locked now, in the order in which a change of
        a whole inbox locks them.
    """
    rows = Notification.objects.using(database())
    locking = lock_query(rows.filter(id__in=[*ids, *others]).order_by("id"), skip_locked=False)
    locked = [row for row in locking.only("id", "user_id", "data") if row.id in ids]
    ids_of: dict[str, list[UUID]] = {}
    for row in locked:
        try:
            data = json.loads(row.data)
            data.pop("actions", None)
            text = json.dumps(data, ensure_ascii=False)
        except (ValueError, AttributeError, RecursionError):
            text = row.data  # damaged: it is marked all the same
        ids_of.setdefault(text, []).append(row.id)
    for text, same in ids_of.items():
        rows.filter(id__in=same).update(data=text, read_at=moment, snoozed_until=None, seq=None)
    return {row.user_id for row in locked}


def without_replaced(user: Any, rows: list[Notification]) -> list[Notification]:
    """Return these rows of a user (key) but those that a newer notification with the same key has replaced.

    Those are not unarchived, and not raised again.

    One statement for all of them: one for each row read everything that is newer, and made 10,000 rows quadratic.
    """
    keys = {row.key for row in rows if row.key}
    if not keys:
        return rows
    newer = Notification.objects.using(connection().alias).filter(
        user_id=user, key__in=keys, raised__gt=min(row.raised for row in rows if row.key)
    )
    # Each partition by itself, whose index finds what was raised later.
    newest_of_keys, *others = (
        newer.filter(partition).values_list("key").annotate(newest=Max("raised"))
        for partition in listing.partitions()
    )
    newest: dict[str, int] = {}
    for key, raised in newest_of_keys.union(*others, all=True):
        newest[key] = max(raised, newest.get(key, 0))
    return [row for row in rows if not row.key or newest.get(row.key, 0) <= row.raised]


def _select(mark: Mark, limit: int) -> tuple[list[tuple[int, UUID]], int]:
    """Return ``raised`` and id of the ``limit`` rows raised first, and up to which position these are all."""
    end = _find_window_end(mark)
    filters: dict[str, Any] = mark.state if mark.is_undo else {}
    if mark.group is not None:
        filters["group_key"] = mark.group
    if mark.category is not None:
        filters["category"] = mark.category
    if mark.level:
        filters["level"] = mark.level
    found: list[tuple[int, UUID]] = []
    # One upper bound: of two SQLite uses only one, and reads everything up to the other.
    for select in _partitions(replace(mark, up_to=end)):
        found += select.filter(**filters).values_list("raised", "id")[: limit + 1]
    found.sort()
    if len(found) > limit:
        del found[limit:]
        end = found[-1][0]
    return found, end


def _find_window_end(mark: Mark) -> int:
    """Return the position up to which rows are read at once for filters, which no index helps."""
    ends = []
    if mark.is_filtered:
        for select in _partitions(mark):
            ends += select.values_list("raised", flat=True)[MAX_ROWS_EXAMINED - 1 : MAX_ROWS_EXAMINED]
    return min(ends, default=mark.up_to)


def _partitions(mark: Mark) -> list[QuerySet[Notification]]:
    """Return the rows between the bounds of a mark that are not in the state of its verb, of each partition."""
    rows = Notification.objects.using(database()).filter(raised__gt=mark.after, raised__lte=mark.up_to)
    rows = rows.order_by("raised")
    if mark.ids is not None:
        # By the primary key: beside an indexed condition on the user, the whole inbox may be read.
        owned = rows.alias(owner=Coalesce("user_id", "user_id")).filter(owner=mark.user)
        return [owned.filter(id__in=mark.ids, **mark.state)]
    column, is_set = VERBS[mark.verb]
    states: dict[str, bool | None] = {"read" if column == "read_at" else "archived": not is_set}
    if mark.group is not None:
        states["archived"] = False  # Only the inbox has indexes of groups.
    partitions = listing.partitions(**states)
    return [rows.filter(partition, user_id=mark.user) for partition in partitions]
