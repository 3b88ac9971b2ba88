"""Create notifications for ``notify()``, with what extensions add to them, and send their signals.

Those of the ends of jobs are in ``transitions/recording.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from notifications import streams
from notifications.db import project_code
from notifications.db.transactions import (
    MAX_ROWS_PER_TRANSACTION,
    fair_atomic,
    in_callers_transaction,
    on_commit,
)
from notifications.extension import RecordedTransaction, hooks
from notifications.jobs.insertion import insert_notifications, prepare_hooks, wake_workers
from notifications.models import Notification
from notifications.signals import notification_recorded
from notifications.streams import inbox
from notifications.tracing import spans

#: A receiver that notifies would call itself without end.
SILENT_HOST_CODE = "receiver of notification_recorded"


def notify(users: Any, title: Any, **fields: Any) -> list[UUID]:
    """Create notifications and send their signals. See ``notifications.api.notify``."""
    if spans.tracer is None:
        return create_notifications(users, title, **fields)
    with spans.notifying() as span:
        ids = create_notifications(users, title, **fields)
        spans.set_notifications(span, ids)
    return ids


def create_notifications(users: Any, title: Any, **fields: Any) -> list[UUID]:
    """Insert one notification for each user, and have them numbered. See ``notifications.api.notify``.

    Inside a caller's transaction it only inserts; otherwise it writes chunks in transactions of its own.
    Returns the ids in the order of the users.
    """
    notifications = [inbox.build_notification(user, title, **fields) for user in inbox.user_keys_of(users)]
    rows = sorted(notifications, key=lambda row: row.user_id)
    if in_callers_transaction():
        prepare_hooks()
        # No stream is locked in a caller's transaction, so it waits for none.
        for start in range(0, len(rows), MAX_ROWS_PER_TRANSACTION):
            chunk = rows[start : start + MAX_ROWS_PER_TRANSACTION]
            inbox.prepare(chunk)
            wake_workers(insert_notifications(chunk, RecordedTransaction()))
        streams.number(row.user_id for row in rows)
        if _has_receivers():
            on_commit(lambda: _send_recorded(rows))
    else:
        size = chunk_size()
        for start in range(0, len(rows), size):
            end = start + size
            create_chunk(rows[start:end], more_follows=end < len(rows))
    return [row.id for row in notifications]


def chunk_size() -> int:
    """Return how many notifications one transaction inserts at most, with what extensions add to them."""
    return max(1, MAX_ROWS_PER_TRANSACTION // (1 + sum(count() for count in hooks.rows_per_notification)))


def create_chunk(
    rows: Sequence[Notification],
    *,
    more_follows: bool,
    claim: Callable[[], bool] | None = None,
    languages: Mapping[UUID, str] | None = None,
) -> bool:
    """Insert notifications, at most ``chunk_size()`` in the order of their users, and number them.

    ``claim``
        Called first in their transaction. If it returns False, nothing is inserted.
    ``more_follows``
        Leaves SQLite's lock free for other writers before this returns.
    ``languages``
        The language of the reader of each, by its id; by default that of this thread.

    Returns whether they were inserted.
    """
    prepare_hooks()
    users = {row.user_id for row in rows}
    is_claimed = True

    def insert() -> bool:
        nonlocal is_claimed
        is_claimed = claim is None or claim()
        if not is_claimed:
            return False
        inbox.prepare(rows)
        # Numbering in place holds SQLite's lock for a third of the time.
        is_numbered = streams.number_new(rows)
        wake_workers(insert_notifications(rows, RecordedTransaction(languages=languages or {})))
        return not is_numbered and streams.number_in_transaction(users)

    if fair_atomic(insert, more_follows=more_follows):
        streams.number_committed(users, more_follows=more_follows)
    if is_claimed and _has_receivers():
        _send_recorded(rows)
    return is_claimed


def _has_receivers() -> bool:
    return bool(notification_recorded.receivers) and project_code.current.get() != SILENT_HOST_CODE


def _send_recorded(rows: Sequence[Notification]) -> None:
    for row in rows:
        project_code.send(notification_recorded, "notification_recorded", Notification, notification=row)
