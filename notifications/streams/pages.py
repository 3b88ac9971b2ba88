"""What pages show: where a stream is, and a page of its notifications."""

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
    """A position as a page carries it: what a client that starts from the page says in its hello."""

    epoch: str
    seq: int
    unread: int


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxPage:
    """Notifications, newest first; ``after`` is where the next page starts, None on the last one."""

    rows: list[Notification]
    after: int | None


def read_stream_position(user: Any) -> StreamPosition:
    """Return where the stream of a user (key) is. To be read before the rows that a page lists."""
    epoch, position = streams.epoch(), changes.position(user)
    return StreamPosition(epoch=epoch, seq=position.head, unread=position.unread)


def read_inbox_page(user: Any, seq: int, after: int | None = None) -> InboxPage:
    """Return a page of a user's (key) notifications that are not archived, as they are up to ``seq``; ``after`` is the
    ``raised`` of the last one of the page before."""
    found = listing.read_newest(user, PAGE_SIZE + 1, head=seq, after=after)
    return InboxPage(
        rows=found[:PAGE_SIZE], after=found[PAGE_SIZE - 1].raised if len(found) > PAGE_SIZE else None
    )
