"""What server-rendered pages show: the position of a stream, and a page of its notifications."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from notifications import streams
from notifications.models import Notification
from notifications.streams import changes, listing

#: Notifications on one page of the inbox.
PAGE_SIZE = 25


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamPosition:
    """The position that a page carries, from which its client resumes."""

    epoch: str
    seq: int
    unread: int
    unseen: int


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxPage:
    """Notifications, newest first. ``after`` is where the next page starts, None on the last page."""

    rows: list[Notification]
    after: int | None


def read_stream_position(user: Any) -> StreamPosition:
    """Return the position of the stream of a user (key). Read it before the rows that a page lists."""
    epoch, position = streams.epoch(), changes.position(user)
    return StreamPosition(epoch=epoch, seq=position.head, unread=position.unread, unseen=position.unseen)


def read_inbox_page(user: Any, seq: int, after: int | None = None) -> InboxPage:
    """Return a page of a user's (key) notifications that are not archived, as they are up to ``seq``.

    ``after`` is the ``raised`` of the last one of the previous page.
    """
    rows = listing.read_newest(user, PAGE_SIZE + 1, head=seq, after=after)
    return InboxPage(
        rows=rows[:PAGE_SIZE], after=rows[PAGE_SIZE - 1].raised if len(rows) > PAGE_SIZE else None
    )
