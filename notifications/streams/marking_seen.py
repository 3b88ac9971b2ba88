"""Mark notifications as seen: their list was shown to the user, who may not have read any of them.

A mark has receipts: when open pages have received notifications, and shown them in a toast. They are the first delivery
and the first display, as far as the browser knows that has marked them first. Pages report how long ago they were,
because their clocks may be wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from notifications import times
from notifications.db.adapters import user_to_db
from notifications.db.transactions import (
    connection,
    database,
    in_callers_transaction,
    on_commit,
    retrying_atomic,
)
from notifications.models import SeenMark
from notifications.streams import ring
from notifications.streams.numbering import Pass
from notifications.streams.positions import position

#: Receipts of one mark.
MAX_RECEIPTS = 50


class Receipt(NamedTuple):
    """When a page has received the notification that was raised at a position.

    ``toast_at``
        When it was shown in a toast, None if it was not.
    """

    raised: int
    received_at: datetime
    toast_at: datetime | None


def count_unseen_sql(user: str = "%s", seen: str = "%s") -> str:
    """Return a statement that counts the unseen notifications: those above ``seen`` that the stream counts as unread.

    Both are used twice, in this order. Pending ones are counted, or not, as they were when they were numbered last, and
    numbering corrects that; the others are found by the index of the unread. It is one statement: a notification that
    is read between two would be in both or in neither.
    """
    is_open, of_user = (
        "(read_at IS NULL AND archived_at IS NULL)",
        f"user_id = {user} AND raised > {seen} AND counted",
    )
    count = f"SELECT count(*) FROM notifications_notification WHERE {of_user} AND"
    return f"SELECT ({count} {is_open}) + ({count} seq IS NULL AND NOT {is_open})"


def mark_seen(user: Any, up_to: int, browser: str = "", receipts: Sequence[Receipt] = ()) -> None:
    """Record that a user (key) was shown the notifications that were raised up to ``up_to``, at most the head.

    The position never falls. Moving it advances the head by one, so that clients are sent it as a change, without
    items, and stores the time, the name of the ``browser`` and its ``receipts`` of those that were not seen before.
    Inside a caller's transaction this is deferred until after its commit.
    Raises ``django.db.OperationalError`` when the database stays busy.
    """
    if in_callers_transaction():
        on_commit(lambda: _mark_seen(user, up_to, browser, receipts))
    else:
        _mark_seen(user, up_to, browser, receipts)


def first_mark(user: Any, raised: int) -> SeenMark | None:
    """Return when a user (key) was first shown what was raised at a position, None if that is not known."""
    marks = SeenMark.objects.using(database()).filter(user=user, up_to__gte=raised)
    return marks.order_by("up_to").first()


def _mark_seen(user: Any, up_to: int, browser: str, receipts: Sequence[Receipt]) -> None:
    if position(user).seen < up_to:
        retrying_atomic(lambda: _move(user, up_to, browser, receipts))


def _move(user: Any, up_to: int, browser: str, receipts: Sequence[Receipt]) -> None:
    db, key = connection(), user_to_db(user)
    with db.cursor() as cursor:
        numbering = Pass(cursor, db, [user])
        numbering.lock_streams()
        # Statements after the lock: see ``Pass.run``.
        (stream,) = numbering.read_streams().values()
        seen = min(up_to, stream.head)
        if seen <= stream.seen:
            return
        cursor.execute(count_unseen_sql(), [key, seen] * 2)
        (unseen,) = cursor.fetchone()
        cursor.execute(
            "UPDATE notifications_stream SET head = head + 1, seen = %s, unseen = %s WHERE user_id = %s",
            [seen, unseen, key],
        )
    first = [receipt for receipt in receipts if stream.seen < receipt.raised <= seen]
    mark = SeenMark(
        user_id=user, up_to=seen, at=times.now(), browser=browser, receipts=_encode_receipts(first)
    )
    mark.save(using=database(), force_insert=True)
    ring([user])


def find_receipt(text: str | None, raised: int) -> Receipt | None:
    """Return the receipt of a notification from what is stored."""
    for row in json.loads(text or "[]"):
        if row[0] == raised:
            return Receipt(raised, _from_ms(row[1]), None if row[2] is None else _from_ms(row[2]))
    return None


def _encode_receipts(receipts: Iterable[Receipt]) -> str | None:
    rows = [
        [raised, _to_ms(received_at), toast_at and _to_ms(toast_at)]
        for raised, received_at, toast_at in receipts
    ]
    return json.dumps(rows, separators=(",", ":")) if rows else None


def _to_ms(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _from_ms(milliseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
