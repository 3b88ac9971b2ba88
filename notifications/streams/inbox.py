"""Create notifications."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.utils.functional import Promise

from notifications import streams, times, validators
from notifications.db import bulk
from notifications.db.transactions import (
    MAX_ROWS_PER_TRANSACTION,
    fair_atomic,
    in_callers_transaction,
    on_commit,
)
from notifications.ids import uuid7
from notifications.models import Notification
from notifications.streams import icons
from notifications.streams.deliveries import insert_deliveries, read_steps
from notifications.streams.groups import make_group_key
from notifications.streams.preferences import mark_muted

logger = logging.getLogger("notifications")

LEVELS = tuple(Notification.Level.values)


class CreationEvents(Protocol):
    """What follows from the creation of notifications: jobs of handlers, and signals."""

    jobs_per_notification: int

    def insert_jobs(self, rows: Sequence[Notification]) -> None:
        """Insert the jobs of handlers, in the transaction that inserts the rows."""

    def send_recorded(self, rows: Sequence[Notification]) -> None:
        """Send ``notification_recorded``, after the commit."""


def create_notifications(
    users: Any, title: Any, *, events: CreationEvents | None = None, **fields: Any
) -> list[uuid.UUID]:
    """Insert one notification for each user, and have them numbered. See ``notifications.api.notify``.

    Inside a caller's transaction it only inserts; otherwise it writes chunks in transactions of its own.
    Returns the ids in the order of the users.
    """
    notifications = [build_notification(user, title, **fields) for user in user_keys_of(users)]
    rows = sorted(notifications, key=lambda row: row.user_id)
    if in_callers_transaction():
        # No stream is locked in a caller's transaction, so it waits for none.
        for start in range(0, len(rows), MAX_ROWS_PER_TRANSACTION):
            chunk = rows[start : start + MAX_ROWS_PER_TRANSACTION]
            prepare(chunk)
            bulk.insert(chunk)
            insert_deliveries(chunk)
        if events:
            events.insert_jobs(rows)
        streams.number(row.user_id for row in rows)
        if events:
            on_commit(lambda: events.send_recorded(rows))
    else:
        size = chunk_size(events)
        for start in range(0, len(rows), size):
            end = start + size
            create_chunk(rows[start:end], events, more_follows=end < len(rows))
    return [row.id for row in notifications]


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
    actions: Sequence[Any] = (),
    icon: str = "",
    actor: Any = None,
    target: Any = None,
    group: str = "",
    deliver: Any = None,
    job: uuid.UUID | None = None,
    task: str = "",
    broadcast: uuid.UUID | None = None,
) -> Notification:
    """Return an unsaved notification for a user (key), its bounds checked. Raises TypeError or ValueError.

    ``task``
        The path of the task of its job, whose notifications of one day are a group if they are in no other.
    """
    if level not in LEVELS:
        raise ValueError(f"level is {level!r}. It must be one of {', '.join(LEVELS)}.")
    if data is not None and not isinstance(data, dict):
        raise TypeError(f"data must be a dict, not {type(data).__name__}.")
    own: dict[str, Any] = {}
    if actions:
        own["actions"] = validators.actions(actions)
    if icon:
        if icon not in icons.NOTIFICATION_ICONS:
            raise ValueError(f"icon is {icon!r}. It must be one of {', '.join(icons.NOTIFICATION_ICONS)}.")
        own["icon"] = icon
    if actor:
        own["actor"] = validators.party("actor", actor, "image")
    if target:
        own["target"] = validators.party("target", target, "url")
    for name in own:
        if data and name in data:
            raise ValueError(f"data has the key {name!r} already. Pass it by one of the two.")
    data = {**(data or {}), **own}
    if actor or target:
        title = _fill(title, own)
        url = url or own.get("target", {}).get("url")
    category = validators.text("category", category, validators.MAX_CATEGORY_LENGTH)
    created_at = times.now()
    return bulk.new(
        Notification,
        id=uuid7(),
        user_id=user,
        title=validators.label("title", title, validators.MAX_TITLE_LENGTH, required=True),
        body=validators.label("body", body, validators.MAX_BODY_LENGTH),
        url=validators.link("url", url),
        level=level,
        category=category,
        key=validators.text("key", key, validators.MAX_KEY_LENGTH),
        data=validators.json_text("data", data, validators.MAX_DATA_BYTES) if data else "{}",
        job=job,
        broadcast=broadcast,
        group_key=make_group_key(group, category, own.get("target"), task, created_at.date()),
        created_at=created_at,
        **({} if deliver is None else {"steps": read_steps(deliver)}),
    )


def _fill(title: Any, parties: dict[str, Any]) -> str:
    """Return a title with the names of the actor and the target in the places that it has for them."""
    if isinstance(title, Promise):
        title = str(title)
    if not isinstance(title, str):
        return title  # An error of the title's own check.
    return re.sub(r"\{(actor|target)\}", lambda place: parties.get(place[1], {}).get("name", place[0]), title)


def user_keys_of(users: Any) -> list[Any]:
    """Return the keys of one user, or of an iterable of users or keys, each once. Raises TypeError or ValueError."""
    if isinstance(users, Model | str | int | uuid.UUID) or not isinstance(users, Iterable):
        users = [users]
    return list(dict.fromkeys(_user_key(user) for user in users))


def _user_key(user: Any) -> Any:
    if user is None or isinstance(user, AnonymousUser | bool) or getattr(user, "pk", user) is None:
        raise ValueError(f"{user!r} is not a saved user. Pass a saved user or its primary key.")
    field: Any = Notification._meta.get_field("user")
    if isinstance(user, Model) and not isinstance(user, field.related_model):
        raise TypeError(f"{user!r} is not a user. Pass a saved user or its primary key.")
    try:
        key = field.target_field.to_python(getattr(user, "pk", user))
        if not isinstance(user, Model):
            if not isinstance(user, str | int | uuid.UUID | type(key)):  # 1.0, of which the key 1 was made
                raise ValueError(
                    f"{user!r} is not a primary key of a user. Pass a saved user or its primary key."
                )
            # 10**30 would fail all rows of a group in the database.
            field.target_field.run_validators(key)
        return key
    except ValidationError as exc:
        raise ValueError(f"{user!r} is not a primary key of a user: {' '.join(exc.messages)}") from exc


def chunk_size(events: CreationEvents | None) -> int:
    """Return how many notifications one transaction inserts at most, with the jobs of their handlers."""
    jobs = events.jobs_per_notification if events else 0
    return max(1, MAX_ROWS_PER_TRANSACTION // (1 + jobs))


def prepare(rows: Sequence[Notification]) -> None:
    """Prepare notifications for a transaction that inserts them, also again after one that was rolled back.

    Then they have no numbers, and those in categories that their users have muted are read. A chunk in a call.
    """
    for row in rows:
        row.seq, row.raised, row.counted = None, None, False
    mark_muted(rows)


def create_chunk(
    rows: list[Notification],
    events: CreationEvents | None,
    *,
    more_follows: bool,
    claim: Callable[[], bool] | None = None,
    languages: Sequence[str] | None = None,
) -> bool:
    """Insert notifications, at most ``chunk_size(events)`` in the order of their users, and number them.

    ``claim``
        Called first in their transaction. If it returns False, nothing is inserted.
    ``more_follows``
        Leaves SQLite's lock free for other writers before this returns.
    ``languages``
        The language of the deliveries of each; by default that of this thread.

    Returns whether they were inserted.
    """
    users = {row.user_id for row in rows}
    is_claimed = True

    def insert() -> bool:
        nonlocal is_claimed
        is_claimed = claim is None or claim()
        if not is_claimed:
            return False
        prepare(rows)
        # Numbering in place holds SQLite's lock for a third of the time.
        is_numbered = streams.number_new(rows)
        bulk.insert(rows)
        insert_deliveries(rows, languages)
        if events:
            events.insert_jobs(rows)
        return not is_numbered and streams.number_in_transaction(users)

    if fair_atomic(insert, more_follows=more_follows):
        streams.number_committed(users, more_follows=more_follows)
    if events and is_claimed:
        events.send_recorded(rows)
    return is_claimed
