"""Reading and marking notifications through the public API, by a user.

No model is imported at the top: ``notifications.api`` may be imported before the models are ready.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from notifications.db.adapters import user_keys_of
from notifications.db.async_twins import names_async_twin
from notifications.db.transactions import chunks, in_callers_transaction, on_commit
from notifications.db.unavailable import log_damage

if TYPE_CHECKING:
    from notifications.models import Notification

#: The fields that are copied from the row as they are.
_COPIED = (
    "id",
    "user_id",
    "title",
    "body",
    "url",
    "level",
    "category",
    "created_at",
    "read_at",
    "archived_at",
    "snoozed_until",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class NotificationInfo:
    """A notification as it was when it was read. It does not follow later changes.

    ``id``, ``user_id``
        A UUID, as ``notify()`` returned it, and the primary key of the user.
    ``title``, ``body``, ``url``, ``level``, ``category``, ``data``
        As they were passed to ``notify()``.
    ``job_id``
        The job that it is about, or None.
    ``created_at``, ``read_at``, ``archived_at``, ``snoozed_until``
        Aware datetimes in UTC. All but ``created_at`` may be None.
    """

    id: UUID
    user_id: Any
    title: str
    body: str
    url: str
    level: str
    category: str
    data: dict[str, Any]
    job_id: UUID | None
    created_at: datetime
    read_at: datetime | None
    archived_at: datetime | None
    snoozed_until: datetime | None

    @property
    def is_unread(self) -> bool:
        """Whether the unread count includes it: it is neither read nor archived."""
        return self.read_at is None and self.archived_at is None


@names_async_twin
def notifications_of(
    user: Any, *, unread: bool = False, archived: bool = False, category: str | None = None, limit: int = 100
) -> list[NotificationInfo]:
    """Return the newest notifications of a user (or primary key), newest first, at most ``limit``.

    ``unread``
        Only those that are not read.
    ``archived``
        Those that are archived, in place of those in the inbox.
    ``category``
        Only those of this category. At most 5,000 notifications are searched for them.

    Those that an open transaction has created are not included: they have no position yet.
    """
    from notifications.streams import listing, number_if_needed, positions

    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ValueError(f"limit is {limit!r}. It must be an integer of 1 or more.")
    [key] = user_keys_of([user])
    number_if_needed([key])
    filters = listing.Filters(
        archived=archived, read=False if unread else None, categories=() if category is None else (category,)
    )
    page = listing.read_page(key, limit, below=positions.position(key).head + 1, filters=filters)
    return [_info(row) for row in page.rows]


@names_async_twin
def unread_count(user: Any) -> int:
    """Return how many notifications of a user (or primary key) are neither read nor archived, in one query.

    Those that an open transaction has created are not counted yet.
    """
    from notifications.streams import positions

    [key] = user_keys_of([user])
    return positions.position(key).unread


@names_async_twin
def mark_read(user: Any, ids: Iterable[UUID] | None = None) -> None:
    """Mark notifications of a user (or primary key) as read, those with these ids, or all in the inbox.

    All pages of the user show that. Notifications of other users are not changed. Inside a transaction it is done after
    the commit. Raises ``django.db.OperationalError`` when the database stays busy.
    """
    [key] = user_keys_of([user])
    chosen = None if ids is None else list(ids)
    if in_callers_transaction():
        on_commit(lambda: _mark_read(key, chosen))
    else:
        _mark_read(key, chosen)


def _mark_read(user: Any, ids: list[UUID] | None) -> None:
    from notifications.streams import marking, number_if_needed, positions

    number_if_needed([user])
    up_to = positions.position(user).head
    for part in [None] if ids is None else chunks(ids):
        after: int | None = 0
        while after is not None:
            after = marking.mark(user, "read", up_to, part, after=after).next


def _info(row: Notification) -> NotificationInfo:
    return NotificationInfo(
        data=_decode(row), job_id=row.job, **{name: getattr(row, name) for name in _COPIED}
    )


def _decode(row: Notification) -> dict[str, Any]:
    try:
        data = json.loads(row.data)
    except (ValueError, RecursionError) as exc:
        log_damage(f"notification {row.id}", f"{type(exc).__name__}: {exc}")
        return {}
    return data if isinstance(data, dict) else {}
