"""Notifications: put into inboxes, marked as read."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.utils import timezone

from notifications import bounds, streams
from notifications.ids import uuid7
from notifications.models import Notification
from notifications.transactions import after_commit, connection, ours

#: Rows inserted by one transaction of ours, and changed by one call of ``mark_read``.
CHUNK, MARKED = 100, 1_000
#: Seconds at least for which SQLite's lock is left to others after each chunk.
PAUSE = 0.005

LEVELS = tuple(Notification.Level.values)


def put(users: Any, title: Any, **fields: Any) -> list[uuid.UUID]:
    """Insert one notification for each user, and have them numbered. See ``notifications.api.notify``.

    Returns the ids in the order of the users.
    """
    made = [compose(user, title, **fields) for user in keys(users)]
    rows = sorted(made, key=lambda row: row.user_id)
    db = connection()
    if db.in_atomic_block:
        # Inserts only: a caller's transaction locks no stream, so it waits for nobody.
        Notification.objects.using(db.alias).bulk_create(rows, batch_size=CHUNK)
        streams.number(row.user_id for row in rows)
    else:
        for start in range(0, len(rows), CHUNK):
            began = time.monotonic()
            _put_chunk(rows[start : start + CHUNK])
            if db.vendor == "sqlite" and start + CHUNK < len(rows):
                # Its lock is unfair: whoever writes back to back leaves others hardly any.
                time.sleep(max(PAUSE, time.monotonic() - began))
    return [row.id for row in made]


def compose(
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
    return Notification(
        id=uuid7(),
        user_id=user,
        title=bounds.text("title", title, bounds.TITLE, required=True),
        body=bounds.text("body", body, bounds.BODY),
        url=bounds.link("url", url),
        level=level,
        category=bounds.text("category", category, bounds.CATEGORY),
        key=bounds.text("key", key, bounds.KEY),
        data=bounds.json_text("data", data or {}, bounds.DATA),
        job=job,
        created_at=timezone.now(),
    )


def mark_read(user: Any, up_to: int, ids: Iterable[uuid.UUID] | None = None) -> bool:
    """Mark a user's (key) notifications as read; at most 1,000, those raised first, and none raised after ``up_to``.

    Inside a caller's transaction this is put off until after its commit. Otherwise all of them have their
    number when it returns. Returns whether there may be more. Raises ``django.db.OperationalError`` where
    somebody else holds a row for over 5 s.
    """
    if connection().in_atomic_block:
        after_commit(lambda: _mark_read(user, up_to, ids))
        return False
    return _mark_read(user, up_to, ids)


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


def _put_chunk(rows: list[Notification]) -> None:
    users = {row.user_id for row in rows}

    def insert() -> bool:
        Notification.objects.using(connection().alias).bulk_create(rows)
        return streams.number_here(users)

    if ours(insert):
        streams.number(users)


def _mark_read(user: Any, up_to: int, ids: Iterable[uuid.UUID] | None) -> bool:
    found = 0

    def mark() -> bool:
        nonlocal found
        db = connection()
        if db.vendor == "postgresql":
            db.cursor().execute("SET LOCAL lock_timeout = '5s'")
        rows = Notification.objects.using(db.alias).filter(
            user_id=user, raised__lte=up_to, read_at__isnull=True
        )
        if ids is not None:
            rows = rows.filter(id__in=list(ids))
        chosen = sorted(rows.order_by("raised").values_list("id", flat=True)[:MARKED])
        found = len(chosen)
        if not chosen:
            return False
        # An UPDATE locks in no order, so the rows are locked first, by id.
        held = Notification.objects.using(db.alias).filter(id__in=chosen, read_at__isnull=True).order_by("id")
        locked = list(held.select_for_update(no_key=db.vendor == "postgresql").values_list("id", flat=True))
        Notification.objects.using(db.alias).filter(id__in=locked).update(read_at=timezone.now(), seq=None)
        return streams.number_here([user])

    if ours(mark):
        streams.number([user])
    return found == MARKED
