"""Read what the pages of the inbox list: pages of notifications, groups as one row each, counts, and categories."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from notifications.db.adapters import user_to_db
from notifications.db.transactions import connection, dialect
from notifications.models import Notification
from notifications.streams import grouping, listing
from notifications.streams.grouping import Group, GroupedRows
from notifications.streams.listing import INBOX, Filters, read_numbered_position_with
from notifications.streams.marking_all import PENDING_KIND
from notifications.streams.positions import StreamPosition

#: Notifications on one page of the inbox.
PAGE_SIZE = 25
#: Notifications of each partition in which categories are looked for, and categories that are found at most.
MAX_ROWS_OF_CATEGORIES, MAX_CATEGORIES = 300, 50
#: Notifications that a list says it has, at most.
MAX_TOTAL = 1_000
#: The greatest count of a view that is shown.
MAX_COUNT = 99
#: Open questions, and what is snoozed.
QUESTIONS, SNOOZED = Filters(read=False, questions=True), Filters(archived=True, snoozed=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxPage:
    """Notifications, newest first.

    ``after``
        Where the next page of older ones starts, None on the last page.
    ``before``
        Where the page of newer ones ends, None on the first page.
    ``is_partial``
        Whether the page is not full, because ``listing.MAX_ROWS_SEARCHED`` notifications were searched for it, or
        the most that ``grouping`` scans are of groups that other pages show.
    ``groups``
        Groups by the ids of their newest notifications, which stand for all of them.
    """

    rows: list[Notification]
    after: int | None
    before: int | None = None
    is_partial: bool = False
    groups: Mapping[UUID, Group] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxState:
    """What the inbox shows besides a page of notifications, as it was at ``position``.

    ``counts``
        Of the views, of which pages show at most ``MAX_COUNT``. What is done is not counted: nothing is left to do
        there.
    ``categories``
        Those of the newest notifications of a list.
    ``saved_views``
        Names and query strings: see ``saved_views.py``.
    ``pending``
        See ``PENDING_KIND``.
    """

    position: StreamPosition
    counts: dict[str, int]
    categories: list[str]
    saved_views: list[list[str]]
    pending: int | None


def read_state(user: Any, categories_of: Filters) -> InboxState:
    """Return what the inbox of a user (key) shows besides a page of notifications. One query if all have a number.

    ``categories_of``
        The list whose categories are read.
    """
    columns, number = [], 0
    for counted in (INBOX, SNOOZED):
        selects = counted.select_each("1", "raised <= head", f"LIMIT {MAX_COUNT + 1}")
        columns.append(f"(SELECT COUNT(*) FROM ({' UNION ALL '.join(selects)}) AS counted)")
        number += len(selects)
    sql, more = _select_categories(categories_of)
    saved = "(SELECT views FROM notifications_inboxviews WHERE user_id = %s)"
    columns += [f"(SELECT {dialect().json_array('category')} FROM ({sql}) AS named)", saved, PENDING_KIND]
    params = [user_to_db(user)] * (number + more + 2)
    position, (inbox, snoozed, categories, views, pending) = read_numbered_position_with(
        user, columns, params
    )
    return InboxState(
        position=position,
        counts={
            "inbox": inbox,
            "unread": position.unread,
            "questions": position.questions,
            "snoozed": snoozed,
            "done": 0,
        },
        categories=json.loads(categories or "[]"),
        saved_views=json.loads(views or "[]"),
        pending=pending,
    )


def read_inbox_page(
    user: Any, head: int, after: int | None = None, *, before: int | None = None, filters: Filters = INBOX
) -> InboxPage:
    """Return a page of a user's (key) notifications, as they are up to ``head``.

    ``after``
        The notifications were raised below this position: the page after the one that ends there.
    ``before``
        They were raised above this position, and are the oldest ones that were.
    """
    if before is not None:
        found = _read_rows(user, head, above=before, below=head + 1, filters=filters, oldest_first=True)
        if found.end not in (None, head):
            rows = found.rows[::-1]
            after = rows[-1].raised if rows else before + 1
            return _make_page(found, filters, rows=rows, after=after, before=found.end)
        after = None  # The page of the newest notifications, which is full.
    # One bound: of two upper bounds SQLite uses only one, and reads everything above the other.
    below = head + 1 if after is None else min(after, head + 1)
    found = _read_rows(user, head, above=None, below=below, filters=filters)
    newest = found.rows[0].raised if found.rows else below - 1
    before = None if after is None else newest
    return _make_page(found, filters, rows=found.rows, after=found.end, before=before)


def _make_page(found: GroupedRows, filters: Filters, **fields: Any) -> InboxPage:
    # A group may have many notifications, so that a page is not full though nothing was searched.
    is_short = not found.rows if filters.has_groups else len(found.rows) < PAGE_SIZE
    return InboxPage(is_partial=is_short and found.end is not None, groups=found.groups, **fields)


def _read_rows(
    user: Any, head: int, *, above: int | None, below: int, filters: Filters, oldest_first: bool = False
) -> GroupedRows:
    """Return the rows of a page between two positions: the newest, or with ``oldest_first`` the oldest."""
    if filters.has_groups:
        return grouping.read_grouped(
            user, PAGE_SIZE, head=head, above=above, below=below, filters=filters, oldest_first=oldest_first
        )
    page = listing.read_page(
        user, PAGE_SIZE, above=above, below=below, filters=filters, oldest_first=oldest_first
    )
    return GroupedRows(rows=page.rows, groups={}, end=page.end)


def read_waiting(user: Any, head: int, limit: int) -> list[Notification]:
    """Return the newest open questions of a user (key) up to ``head``."""
    return listing.read_between(user, limit, above=None, below=head + 1, filters=QUESTIONS)


def read_failed(user: Any, head: int, filters: Filters) -> list[Notification]:
    """Return the newest notifications of a group of a user (key) that are errors, up to ``head``: a page at most."""
    failed = replace(filters, level="error")
    return listing.read_between(user, PAGE_SIZE, above=None, below=head + 1, filters=failed)


def describe_total(user: Any, *, head: int, filters: Filters) -> str:
    """Return how many notifications of a user (key) narrow filters select: "158", or "1000+" if there are more.

    Those that are searched for a page are counted, so "12+" says that more are not searched.
    """
    below, window = head + 1, None
    if filters.is_narrow:
        window = listing.find_window(user, listing.MAX_ROWS_SEARCHED, above=0, below=below, filters=filters)
    sql, params = listing.select(
        ["raised"],
        user,
        MAX_TOTAL + 1,
        above=None if window is None else window - 1,
        below=below,
        filters=filters,
    )
    with connection().cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM ({sql}) AS counted", params)
        total = cursor.fetchone()[0]
    return f"{MAX_TOTAL}+" if total > MAX_TOTAL else f"{total}{'' if window is None else '+'}"


def find_other_categories(user: Any, categories: Sequence[str], *, up_to: int, filters: Filters) -> list[str]:
    """Return all categories of a list up to a position but these, with ``""`` where notifications have none."""
    selects = filters.select_each("category", "raised <= %s", "")
    with connection().cursor() as cursor:
        cursor.execute(
            f"SELECT DISTINCT category FROM ({' UNION ALL '.join(selects)}) AS listed",
            [user_to_db(user), up_to] * len(selects),
        )
        return sorted({category for (category,) in cursor.fetchall()} - set(categories))


def _select_categories(filters: Filters) -> tuple[str, int]:
    """Return SQL of the categories of a list, before its narrow filters, and how often the user is its parameter."""
    selects = filters.select_each(
        "category", "raised > 0", f"ORDER BY raised DESC LIMIT {MAX_ROWS_OF_CATEGORIES}"
    )
    sql = (
        f"SELECT DISTINCT category FROM ({' UNION ALL '.join(selects)}) AS newest WHERE category <> '' "
        f"ORDER BY category LIMIT {MAX_CATEGORIES}"
    )
    return sql, len(selects)
