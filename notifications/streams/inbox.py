"""Notifications: put into inboxes, read and archived."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.db import OperationalError
from django.db.models import Exists, Model, OuterRef, Q

from notifications import streams, times, validators
from notifications.db import bulk
from notifications.db.transactions import (
    MAX_ROWS_PER_TRANSACTION,
    connection,
    fair_atomic,
    in_callers_transaction,
    on_commit,
)
from notifications.ids import uuid7
from notifications.models import Notification
from notifications.streams import listing

logger = logging.getLogger("notifications")

#: Rows changed by one call of ``mark``.
MAX_MARKED_ROWS = 1_000

#: What each verb does: the field, and whether it gets a time or loses it.
VERBS = {
    "read": ("read_at", True),
    "unread": ("read_at", False),
    "archive": ("archived_at", True),
    "unarchive": ("archived_at", False),
}

LEVELS = tuple(Notification.Level.values)


def create_notifications(users: Any, title: Any, **fields: Any) -> list[uuid.UUID]:
    """Insert one notification for each user, and have them numbered. See ``notifications.api.notify``.

    Returns the ids in the order of the users.
    """
    made = [build_notification(user, title, **fields) for user in keys(users)]
    rows = sorted(made, key=lambda row: row.user_id)
    db = connection()
    if in_callers_transaction(db):
        # Inserts only: a caller's transaction locks no stream, so it waits for nobody.
        Notification.objects.using(db.alias).bulk_create(rows, batch_size=MAX_ROWS_PER_TRANSACTION)
        streams.number(row.user_id for row in rows)
    else:
        for start in range(0, len(rows), MAX_ROWS_PER_TRANSACTION):
            _create_chunk(
                rows[start : start + MAX_ROWS_PER_TRANSACTION],
                more=start + MAX_ROWS_PER_TRANSACTION < len(rows),
            )
    return [row.id for row in made]


def build_notification(
    user: Any,
    title: Any,
    *,
    body: Any = "",
    url: str | None = None,
    level: str = "info",
    category: str = "",
    key: str = "",
    data: dict[str, Any] | None = None,
    job: uuid.UUID | None = None,
) -> Notification:
    """Return an unsaved notification for a user (key), its bounds checked. Raises TypeError or ValueError."""
    if level not in LEVELS:
        raise ValueError(f"level is {level!r}. It must be one of {', '.join(LEVELS)}.")
    if data is not None and not isinstance(data, dict):
        raise TypeError(f"data must be a dict, not {type(data).__name__}.")
    return bulk.new(
        Notification,
        id=uuid7(),
        user_id=user,
        title=validators.text("title", title, validators.TITLE, required=True),
        body=validators.text("body", body, validators.BODY),
        url=validators.link("url", url),
        level=level,
        category=validators.text("category", category, validators.CATEGORY),
        key=validators.text("key", key, validators.KEY),
        data=validators.json_text("data", data or {}, validators.DATA),
        job=job,
        created_at=times.now(),
    )


def mark(user: Any, verb: str, up_to: int, ids: Iterable[uuid.UUID] | None = None) -> bool:
    """Do ``"read"``, ``"unread"``, ``"archive"`` or ``"unarchive"`` with notifications of a user (key).

    Only with those that are not so already and were not raised after ``up_to``; at most 1,000, those raised first.
    Inside a caller's transaction this is put off until after its commit. Otherwise all of them have their number
    when it returns. Returns whether there may be more. Raises ``django.db.OperationalError`` where somebody else
    holds a row for over 5 s.
    """
    if in_callers_transaction():
        on_commit(lambda: _mark(user, verb, up_to, ids))
        return False
    return _mark(user, verb, up_to, ids)


def keys(users: Any) -> list[Any]:
    """Return the keys of one user, or of an iterable of users or keys, each once. Raises TypeError or ValueError."""
    if isinstance(users, Model | str | int | uuid.UUID) or not isinstance(users, Iterable):
        users = [users]
    return list(dict.fromkeys(_key(user) for user in users))


def _key(user: Any) -> Any:
    if user is None or isinstance(user, AnonymousUser) or getattr(user, "pk", user) is None:
        raise ValueError(
            f"{user!r} cannot be notified. Pass a saved user, its primary key, or several of them."
        )
    field: Any = Notification._meta.get_field("user")
    if isinstance(user, Model) and not isinstance(user, field.related_model):
        raise TypeError(f"{user!r} is no user. Pass a saved user, its primary key, or several of them.")
    try:
        return field.target_field.to_python(getattr(user, "pk", user))
    except ValidationError as exc:
        raise ValueError(f"{user!r} is no primary key of a user: {' '.join(exc.messages)}") from exc


def _create_chunk(rows: list[Notification], more: bool) -> None:
    users = {row.user_id for row in rows}

    def insert() -> bool:
        Notification.objects.using(connection().alias).bulk_create(rows)
        return streams.number_here(users)

    if fair_atomic(insert, more=more):
        try:
            streams.number(users, more=more)
        except OperationalError:
            # The rows are stored: an error would have the caller send them again.
            logger.warning(
                "Notifications wait for their number; a process that looks gives it.", exc_info=True
            )


def _mark(user: Any, verb: str, up_to: int, ids: Iterable[uuid.UUID] | None) -> bool:
    field, sets = VERBS[verb]
    not_so = Q(**{f"{field}__isnull": sets})
    chosen_from = listing.parts(**{"read" if field == "read_at" else "archived": not sets})
    if verb == "unarchive":
        # One that a newer notification with the same key has replaced stays where it is.
        newer = Notification.objects.filter(user=user, key=OuterRef("key"), raised__gt=OuterRef("raised"))
        # Of each part by itself, whose index says what was raised later.
        not_so &= Q(key="") | Q(*(~Exists(newer.filter(part)) for part in listing.parts()))
    db = connection()
    left, full = MAX_MARKED_ROWS, False

    def change() -> int:
        nonlocal full
        if db.vendor == "postgresql":
            db.cursor().execute("SET LOCAL lock_timeout = '5s'")
        rows = Notification.objects.using(db.alias).filter(not_so, user_id=user, raised__lte=up_to)
        if ids is not None:
            rows = rows.filter(id__in=list(ids))
        oldest: list[tuple[int, uuid.UUID]] = []
        for part in chosen_from:
            oldest += rows.filter(part).order_by("raised").values_list("raised", "id")[:some]
        chosen = sorted({id for _, id in sorted(oldest)[:some]})
        if not chosen:
            return 0
        # An UPDATE locks in no order, so the rows are locked first, by id.
        held = Notification.objects.using(db.alias).filter(not_so, id__in=chosen).order_by("id")
        locked = list(held.select_for_update(no_key=db.vendor == "postgresql").values_list("id", flat=True))
        value = times.now() if sets else None
        Notification.objects.using(db.alias).filter(id__in=locked).update(**{field: value}, seq=None)
        full = streams.number_here([user])
        return len(chosen)

    while left:
        # SQLite has one lock for all; PostgreSQL locks only these rows.
        some = min(left, MAX_ROWS_PER_TRANSACTION) if db.vendor == "sqlite" else left
        found = fair_atomic(change)
        left -= found
        if found < some:
            break
    if full:
        streams.number([user], more=not left)
    return not left
