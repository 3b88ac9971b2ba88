"""Mark a whole inbox as read: a request does so for a second, and the rest goes on in the background.

What is left is kept in the user's stream, so it survives the process. Every server process and every worker goes on
with it. They take different rows, and none waits for a row that is locked elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from notifications import streams, times
from notifications.db.transactions import MAX_ROWS_PER_TRANSACTION, connection, fair_atomic
from notifications.models import Notification
from notifications.streams import listing

#: Seconds for which a request marks, and for which a server process does once a second: the thread also numbers what
#: new clients are shown.
REQUEST_SECONDS, ROUND_SECONDS = 1.0, 0.05

#: The position up to which everything is marked, None where nothing is left, and whether rows were marked.
Progress = tuple[int | None, bool]


def mark_all_read(user: Any, up_to: int) -> bool:
    """Mark as read what was raised up to ``up_to`` for a user (key).

    Return whether the rest is marked in the background, after ``REQUEST_SECONDS``.
    Raises ``django.db.OperationalError`` when the database stays busy.
    """
    give_up = time.monotonic() + REQUEST_SECONDS
    after, moved = 0, True
    while moved and time.monotonic() < give_up:
        position, moved = fair_atomic(lambda after=after: _mark_chunk(user, after, up_to))  # type: ignore[misc]
        if position is None:
            return False
        after = position
    streams.read_later(user, after, up_to)
    return True


def continue_marking(
    seconds: float = ROUND_SECONDS, run: Callable[[Callable[[], Progress]], Progress] = fair_atomic
) -> bool:
    """Go on with what requests have left, for about ``seconds`` and at least one chunk that is not locked elsewhere.

    Return whether there is more. ``run`` runs a transaction.
    """
    give_up = time.monotonic() + seconds
    while pending := streams.being_read():
        moved = False
        for user, after, up_to in pending:
            _, marked = run(lambda pending=(user, after, up_to): _continue(*pending))  # type: ignore[misc]
            moved = moved or marked
            # Not before something is marked, or an inbox whose rows are locked would hold up those behind it.
            if moved and time.monotonic() >= give_up:
                return True
        if not moved:
            return False
    return False


def _continue(user: Any, after: int, up_to: int) -> Progress:
    position, marked = _mark_chunk(user, after, up_to)
    streams.read_on(user, after, up_to, position)
    return position, marked


def _mark_chunk(user: Any, after: int, up_to: int) -> Progress:
    """Mark the oldest unread rows above ``after``, but those that are locked elsewhere."""
    db = connection()
    rows = Notification.objects.using(db.alias).filter(user=user, raised__gt=after, raised__lte=up_to)
    unread: list[tuple[int, Any]] = []
    for part in listing.parts(read=False):
        unread += rows.filter(part).order_by("raised").values_list("raised", "id")[:MAX_ROWS_PER_TRANSACTION]
    oldest = sorted(unread)[:MAX_ROWS_PER_TRANSACTION]
    if not oldest:
        return None, False
    free = Notification.objects.using(db.alias).filter(id__in=[id for _, id in oldest], read_at=None)
    if db.features.has_select_for_update_skip_locked:
        free = free.select_for_update(skip_locked=True, no_key=True)
    locked = set(free.order_by("id").values_list("id", flat=True))
    Notification.objects.using(db.alias).filter(id__in=locked).update(read_at=times.now(), seq=None)
    streams.number_here([user])
    left = next((raised for raised, id in oldest if id not in locked), None)
    if left is not None:
        return left - 1, bool(locked)
    return (oldest[-1][0] if len(oldest) == MAX_ROWS_PER_TRANSACTION else None), bool(locked)
