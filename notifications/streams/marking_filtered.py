"""Mark the notifications of a category or level, in bounded steps that a client continues.

No index finds them, so each step reads a bounded number of rows and returns where the next one begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from notifications.db.transactions import database
from notifications.models import Notification
from notifications.streams import inbox, listing

#: Rows of each partition that one step reads to find those that the filters select.
MAX_ROWS_EXAMINED = 5_000


def mark_filtered(
    user: Any,
    verb: str,
    up_to: int,
    ids: Iterable[UUID] | None = None,
    *,
    after: int = 0,
    category: str | None = None,
    level: str = "",
) -> int | None:
    """Change by ``verb`` those notifications of a user (key) that were raised above ``after`` and up to ``up_to``.

    ``verb``
        One of ``inbox.VERBS``.
    ``ids``, ``category``, ``level``
        Those with one of these ids, of this category and of this level only; None and ``""``: all.

    One call changes at most ``inbox.MAX_MARKED_ROWS``, those raised first. All of them have their number when it
    returns. Returns the ``after`` of the next call, None if nothing is left.
    Raises ``django.db.OperationalError`` where another transaction holds a row for over 5 s.
    """
    column, is_set = inbox.VERBS[verb]
    partitions = listing.partitions(**{"read" if column == "read_at" else "archived": not is_set})
    rows = Notification.objects.using(database()).filter(user_id=user, raised__gt=after).order_by("raised")
    end = None
    if ids is not None:
        rows = rows.filter(id__in=ids)
    else:
        end = _find_end(rows.filter(raised__lte=up_to), partitions)
    # One upper bound: of two SQLite uses only one, and reads everything up to the other.
    rows = rows.filter(raised__lte=up_to if end is None else end)
    if category is not None:
        rows = rows.filter(category=category)
    if level:
        rows = rows.filter(level=level)
    selected: list[tuple[int, UUID]] = []
    for partition in partitions:
        selected += rows.filter(partition).values_list("raised", "id")[: inbox.MAX_MARKED_ROWS + 1]
    selected.sort()
    if len(selected) > inbox.MAX_MARKED_ROWS:
        del selected[inbox.MAX_MARKED_ROWS :]
        end = selected[-1][0]
    if selected:
        first, last = selected[0][0], selected[-1][0]
        inbox.mark(user, verb, last, [id for _, id in selected], after=first - 1)
    return end


def _find_end(rows: QuerySet[Notification], partitions: list[Q]) -> int | None:
    """Return the ``raised`` of the last row that one call reads, None if there are fewer rows."""
    positions = [rows.filter(partition).values_list("raised", flat=True) for partition in partitions]
    ends = [end for found in positions for end in found[MAX_ROWS_EXAMINED - 1 : MAX_ROWS_EXAMINED]]
    return min(ends, default=None)
