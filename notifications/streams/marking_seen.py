"""Mark notifications as seen: their list was shown to the user, who may not have read any of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from notifications import times
from notifications.db.transactions import (
    connection,
    database,
    in_callers_transaction,
    on_commit,
    retrying_atomic,
)
from notifications.db.user_keys import to_db
from notifications.models import SeenMark, Stream
from notifications.streams import ring
from notifications.streams.numbering import Pass
from notifications.streams.positions import position
from notifications.streams.receipts import Receipt, encode


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


def seen_positions(users: Iterable[Any]) -> dict[Any, int]:
    """Return up to where each of these users (keys) was shown the stream, without those that have none."""
    rows = Stream.objects.using(database()).filter(user_id__in=list(users))
    return dict(rows.values_list("user_id", "seen"))


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
    db, key = connection(), to_db(user)
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
    mark = SeenMark(user_id=user, up_to=seen, at=times.now(), browser=browser, receipts=encode(first))
    mark.save(using=database(), force_insert=True)
    ring([user])
