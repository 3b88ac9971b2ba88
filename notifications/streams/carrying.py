"""Changes that a ring carries, so that processes with live subscribers need not read them.

A change is made last in the transaction that has numbered its rows, which holds the stream locked: between ``prev`` and
``seq`` are these rows and no others. Only a subscriber at ``prev`` of the same epoch takes it, and only while the guard
of its user is that of the change; for all others the rows are read, as after a ring that carries nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import Any, NamedTuple

from notifications.conf import settings
from notifications.models import Job, Notification
from notifications.serializers import encode_item, text_size
from notifications.streams.numbering import StreamState

#: Rows of a transaction that are carried at most. A bulk write would pay for texts that few subscribers need.
MAX_ROWS_CARRIED = 10
#: Bytes of the items of a change at most. NOTIFY takes 7,999, with the rest of the message.
MAX_ITEMS_BYTES = 7_000


class CarriedChange(NamedTuple):
    """The advance of a stream from ``prev`` to ``seq``; ``items`` are its rows as JSON, with commas between."""

    epoch: str
    guard: int
    prev: int
    seq: int
    unread: int
    unseen: int
    items: str

    def to_text(self) -> str:
        """Return it for ``parse_change()``."""
        # JSON has no line break.
        numbers = f"{self.guard},{self.prev},{self.seq},{self.unread},{self.unseen}"
        return f"{self.epoch},{numbers}\n{self.items}"


#: The changes of each user (key), all that a ring was for; none: they must be read.
Changes = Mapping[Any, Sequence[CarriedChange]]


def parse_change(text: str | None) -> tuple[CarriedChange, ...]:
    """Return the change in a text; nothing if there is none, or another version has written it."""
    start, _, items = (text or "").partition("\n")
    epoch, *numbers = start.split(",")
    try:
        return (CarriedChange(epoch, *map(int, numbers), items=items),)  # type: ignore[arg-type,misc]
    except (TypeError, ValueError):
        return ()


class Numbered:
    """Rows that ``number_new()`` has numbered. ``heads`` are those of their streams before, by user (key)."""

    def __init__(
        self,
        rows: Sequence[Notification | Job],
        epoch: str | None = None,
        heads: Mapping[Any, int] = MappingProxyType({}),
        streams: Mapping[Any, StreamState] = MappingProxyType({}),
    ) -> None:
        self._rows = rows
        self._epoch = epoch
        self._heads = heads
        self._streams = streams

    @property
    def users(self) -> Iterable[Any]:
        return self._streams

    def changes(self) -> Changes:
        """Return what a ring carries of these rows, which are as they were written."""
        if self._epoch is None or len(self._rows) > MAX_ROWS_CARRIED or not settings.RINGS_CARRY_CHANGES:
            return {}
        if any(row.seq is None for row in self._rows):  # See ``uncounting_deleted()``.
            return {}
        items: dict[Any, list[str]] = {user: [] for user in self._streams}
        for row in self._rows:
            items[row.user_id].append(_encode(row))
        found = {}
        for user, stream in self._streams.items():
            text = ",".join(items[user])
            if text_size(text) <= MAX_ITEMS_BYTES:
                positions = self._heads[user], stream.head, stream.unread, stream.unseen
                found[user] = (CarriedChange(self._epoch, stream.guard, *positions, text),)
        return found


def _encode(row: Notification | Job) -> str:
    if isinstance(row, Job):
        # The statement that writes its end raises the version.
        row = copy(row)
        row.version += 1
    return encode_item(row)
