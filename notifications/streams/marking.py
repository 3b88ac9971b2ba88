"""Mark a whole inbox as read: one second of it within the request, the rest in the background.

What is left is stored in the user's stream, so it survives the process. Every server process and every worker continues
it. They take different rows, and none waits for a row that is locked elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from notifications import streams, times
from notifications.db.transactions import (
    MAX_ROWS_PER_TRANSACTION,
    connection,
    fair_atomic,
    retrying_atomic,
)
from notifications.db.user_keys import from_db, to_db
from notifications.models import Notification
from notifications.streams import listing

#: Seconds for which a request marks rows.
REQUEST_SECONDS = 1.0
#: Seconds for which a server process marks rows, once a second. Its thread also numbers what new clients are shown.
ROUND_SECONDS = 0.05
#: Users whose pending reads one round continues at most.
MAX_PENDING_USERS = 100

#: The position up to which everything is marked (None where nothing is left), and whether rows were marked.
Progress = tuple[int | None, bool]


def mark_all_read(user: Any, up_to: int) -> bool:
    """Mark as read what was raised up to ``up_to`` for a user (key).

    Returns whether the rest is marked in the background, after ``REQUEST_SECONDS``.
    Raises ``django.db.OperationalError`` when the database stays busy.
    """
    stop_at = time.monotonic() + REQUEST_SECONDS
    after, marked = 0, True
    while marked and time.monotonic() < stop_at:
        position, marked = fair_atomic(lambda after=after: _mark_chunk(user, after, up_to))  # type: ignore[misc]
        if position is None:
            return False
        after = position
    save_pending_read(user, after, up_to)
    return True


def continue_marking(
    seconds: float = ROUND_SECONDS, run: Callable[[Callable[[], Progress]], Progress] = fair_atomic
) -> bool:
    """Continue pending reads for about ``seconds``, and at least one chunk that is not locked elsewhere.

    ``run`` runs a function in a transaction. Returns whether there is more to mark.
    """
    stop_at = time.monotonic() + seconds
    while pending := pending_reads():
        any_marked = False
        for user, after, up_to in pending:
            _, marked = run(lambda pending=(user, after, up_to): _continue(*pending))  # type: ignore[misc]
            any_marked = any_marked or marked
            # Not before rows were marked, or an inbox whose rows are locked would hold up those behind it.
            if any_marked and time.monotonic() >= stop_at:
                return True
        if not any_marked:
            return False
    return False


def save_pending_read(user: Any, after: int, up_to: int) -> None:
    """Store that what was raised above ``after`` and up to ``up_to`` for a user (key) is still to be marked as read."""

    def change() -> None:
        with connection().cursor() as cursor:
            cursor.execute(
                "UPDATE notifications_stream SET read_after = %s, "
                "read_up_to = CASE WHEN read_up_to > %s THEN read_up_to ELSE %s END WHERE user_id = %s",
                [after, up_to, up_to, to_db(user)],
            )

    retrying_atomic(change)


def pending_reads(user: Any = None) -> list[tuple[Any, int, int]]:
    """Return the pending reads as (user key, after, up_to).

    Of one user, or of the ``MAX_PENDING_USERS`` of whom least is marked.
    """
    of_user, params = ("AND user_id = %s ", [to_db(user)]) if user is not None else ("", [])
    with connection().cursor() as cursor:
        cursor.execute(
            "SELECT user_id, read_after, read_up_to FROM notifications_stream WHERE read_up_to IS NOT NULL "
            f"{of_user}ORDER BY read_after, user_id LIMIT {MAX_PENDING_USERS}",
            params,
        )
        return [(from_db(key), after, up_to) for key, after, up_to in cursor.fetchall()]


def advance_pending_read(user: Any, after: int, up_to: int, position: int | None) -> None:
    """Store that rows raised up to ``position`` are marked (None: all of them), in the transaction that marked them.

    Nothing changes where another process has advanced it, or another request was made, since ``pending_reads``.
    """
    new_values = [None, None] if position is None else [position, up_to]
    with connection().cursor() as cursor:
        cursor.execute(
            "UPDATE notifications_stream SET read_after = %s, read_up_to = %s "
            "WHERE user_id = %s AND read_after = %s AND read_up_to = %s",
            [*new_values, to_db(user), after, up_to],
        )


def _continue(user: Any, after: int, up_to: int) -> Progress:
    position, marked = _mark_chunk(user, after, up_to)
    advance_pending_read(user, after, up_to, position)
    return position, marked


def _mark_chunk(user: Any, after: int, up_to: int) -> Progress:
    """Mark the oldest unread rows above ``after``, but those that are locked elsewhere."""
    db = connection()
    rows = Notification.objects.using(db.alias).filter(user=user, raised__gt=after, raised__lte=up_to)
    unread: list[tuple[int, Any]] = []
    for partition in listing.partitions(read=False):
        unread += (
            rows.filter(partition).order_by("raised").values_list("raised", "id")[:MAX_ROWS_PER_TRANSACTION]
        )
    oldest = sorted(unread)[:MAX_ROWS_PER_TRANSACTION]
    if not oldest:
        return None, False
    lockable = Notification.objects.using(db.alias).filter(id__in=[id for _, id in oldest], read_at=None)
    if db.features.has_select_for_update_skip_locked:
        lockable = lockable.select_for_update(skip_locked=True, no_key=True)
    locked = set(lockable.order_by("id").values_list("id", flat=True))
    Notification.objects.using(db.alias).filter(id__in=locked).update(read_at=times.now(), seq=None)
    streams.number_in_transaction([user])
    first_skipped = next((raised for raised, id in oldest if id not in locked), None)
    if first_skipped is not None:
        return first_skipped - 1, bool(locked)
    return (oldest[-1][0] if len(oldest) == MAX_ROWS_PER_TRANSACTION else None), bool(locked)
