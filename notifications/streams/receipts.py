"""When open pages have received notifications, and shown them in a toast: a part of the mark that they were seen.

It is the first delivery and the first display, as far as the browser knows that has marked them first. Pages report how
long ago they were, because their clocks may be wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

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


def encode(receipts: Iterable[Receipt]) -> str | None:
    """Return receipts as they are stored, None if there are none."""
    rows = [
        [raised, _to_ms(received_at), toast_at and _to_ms(toast_at)]
        for raised, received_at, toast_at in receipts
    ]
    return json.dumps(rows, separators=(",", ":")) if rows else None


def find(text: str | None, raised: int) -> Receipt | None:
    """Return the receipt of a notification from what is stored."""
    for row in json.loads(text or "[]"):
        if row[0] == raised:
            return Receipt(raised, _from_ms(row[1]), None if row[2] is None else _from_ms(row[2]))
    return None


def _to_ms(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _from_ms(milliseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
