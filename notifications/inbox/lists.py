"""What server-rendered pages show: the position of a stream, and a page of its notifications."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from notifications.models import Notification
from notifications.streams import changes, listing
from notifications.streams.groups import Group, read_grouped
from notifications.streams.listing import INBOX, Filters

#: Notifications on one page of the inbox.
PAGE_SIZE = 25


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamPosition:
    """The position that a page carries, from which its client resumes."""

    epoch: str
    seq: int
    unread: int
    unseen: int
    questions: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxPage:
    """Notifications, newest first.

    ``after``
        Where the next page of older ones starts, None on the last page.
    ``before``
        Where the page of newer ones ends, None on the first page.
    ``is_partial``
        Whether the page is not full, because ``listing.MAX_ROWS_SEARCHED`` notifications were searched for it.
    ``groups``
        Groups by the ids of their newest notifications, which stand for all of them.
    """

    rows: list[Notification]
    after: int | None
    before: int | None = None
    is_partial: bool = False
    groups: Mapping[UUID, Group] = field(default_factory=dict)


def read_stream_position(user: Any) -> StreamPosition:
    """Return the position of the stream of a user (key), in one query. Read it before the rows that a page lists."""
    epoch, position, questions = changes.epoch_position_and_questions(user)
    return StreamPosition(
        epoch=epoch,
        seq=position.head,
        unread=position.unread,
        unseen=position.unseen,
        questions=questions,
    )


def read_inbox_page(
    user: Any, seq: int, after: int | None = None, *, before: int | None = None, filters: Filters = INBOX
) -> InboxPage:
    """Return a page of a user's (key) notifications, as they are up to ``seq``.

    ``after``
        The notifications were raised below this position: the page after the one that ends there.
    ``before``
        They were raised above this position, and are the oldest ones that were.
    """
    if before is not None and (page := _read_newer(user, seq, before, filters)) is not None:
        return page
    if before is not None:
        after = None  # The page of the newest notifications, which is full.
    below = seq + 1 if after is None else min(after, seq + 1)
    if filters.has_groups:
        rows = read_grouped(user, PAGE_SIZE, head=seq, below=below, filters=filters)
        found = InboxPage(
            rows=rows.rows,
            after=rows.end,
            is_partial=not rows.rows and rows.end is not None,
            groups=rows.groups,
        )
    else:
        listed = listing.read_page(user, PAGE_SIZE, head=seq, after=after, filters=filters)
        found = InboxPage(rows=listed.rows, after=listed.after, is_partial=listed.is_partial)
    if after is not None:
        found = replace(found, before=found.rows[0].raised if found.rows else below - 1)
    return found


def _read_newer(user: Any, seq: int, before: int, filters: Filters) -> InboxPage | None:
    """Return the page of the oldest notifications above ``before``, None if it reaches the newest one."""
    if filters.has_groups:
        return _read_newer_groups(user, seq, before, filters)
    ceiling = seq + 1
    if filters.is_narrow:
        end = listing.find_window(
            user, listing.MAX_ROWS_SEARCHED, above=before, below=seq + 1, filters=filters, oldest_first=True
        )
        ceiling = ceiling if end is None else end + 1
    rows = listing.read_between(
        user, PAGE_SIZE + 1, above=before, below=ceiling, filters=filters, oldest_first=True
    )
    is_full = len(rows) > PAGE_SIZE
    if not is_full and ceiling > seq:
        return None
    rows = rows[:PAGE_SIZE][::-1]
    return InboxPage(
        rows=rows,
        after=rows[-1].raised if rows else before + 1,
        before=rows[0].raised if is_full else ceiling - 1,
        is_partial=not is_full,
    )


def _read_newer_groups(user: Any, seq: int, before: int, filters: Filters) -> InboxPage | None:
    found = read_grouped(
        user, PAGE_SIZE, head=seq, below=seq + 1, above=before, filters=filters, oldest_first=True
    )
    if found.end is None:
        return None
    rows = found.rows[::-1]
    return InboxPage(
        rows=rows,
        after=rows[-1].raised if rows else before + 1,
        before=found.end,
        is_partial=not rows,
        groups=found.groups,
    )
