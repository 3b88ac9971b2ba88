"""What a notification of django-notifications-hq becomes: its actor, verb and objects in words, its state and time."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from notifications import validators
from notifications.contrib.hq.models import HqNotification
from notifications.db import new_row
from notifications.models import Notification
from notifications.times import as_utc

LEVELS = {"1": "success", "2": "info", "3": "warning", "4": "error"}
#: The key of ``data`` by which imported notifications are found, with the id that they had.
IMPORTED = "hq"
_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)


def make_id(row: HqNotification) -> uuid.UUID:
    """Return the id of the notification that a row becomes: the same each time, and ascending with its time.

    Of version 7 (RFC 9562), with the id of the row in place of what is random.
    """
    milliseconds = (as_utc(row.timestamp) - _EPOCH) // _MILLISECOND
    return uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | 0b10 << 62 | row.pk)


def make_notification(row: HqNotification) -> Notification:
    """Return the unsaved notification that a row becomes. Names and texts that are too long are cut."""
    actor, target, action_object = (_object(row, name) for name in ("actor", "target", "action_object"))
    # As the other app writes it: actor verb [action_object] [on target].
    words = [_words(actor), row.verb]
    if action_object is not None:
        words += [_words(action_object), "on" if target is not None else ""]
    words.append(_words(target))
    data: dict[str, Any] = {IMPORTED: row.pk}
    if name := _cut(_words(actor), validators.MAX_NAME_LENGTH):
        data["actor"] = {"name": name}
    created_at = as_utc(row.timestamp)  # when it was read is not known
    return new_row(
        Notification,
        id=make_id(row),
        user_id=row.recipient_id,
        title=_cut(" ".join(filter(None, words)), validators.MAX_TITLE_LENGTH) or "-",
        body=_cut(row.description or "", validators.MAX_BODY_LENGTH),
        url=_url_of(target) or _url_of(action_object) or "",
        level=LEVELS.get(str(row.level), row.level if row.level in LEVELS.values() else "info"),
        data=_encode_with(row.data, data),
        created_at=created_at,
        read_at=None if row.unread else created_at,
        archived_at=created_at if row.deleted else None,
    )


def _encode_with(stored: Any, own: dict[str, Any]) -> str:
    """Return as JSON what was passed to the other app with our keys, or these alone if this app cannot store it."""
    try:
        value = json.loads(stored) if isinstance(stored, str) else stored
        if isinstance(value, dict):
            return validators.json_text("data", {**value, **own}, validators.MAX_DATA_BYTES)
    except (TypeError, ValueError, RecursionError):
        pass
    return json.dumps(own)


def _object(row: HqNotification, name: str) -> Any:
    """Return an object that a row names, None if there is none any more, or its class is gone."""
    try:
        return getattr(row, name)
    except Exception:  # a model that is gone, a key that it cannot have, code of the project
        return None


def _url_of(found: Any) -> str:
    """Return where an object is shown, "" if it does not say."""
    try:
        return validators.link("url", found.get_absolute_url())
    except Exception:  # code of the project
        return ""


def _words(found: Any) -> str:
    """Return an object in words, "" for none, and for one whose class raises."""
    return "" if found is None else validators.decoration(found)


def _cut(text: str, length: int) -> str:
    return validators.printable(text)[:length].strip()
