"""What a notification of django-notifications-hq becomes: its actor, verb and objects in words, its state and time."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.exceptions import ObjectDoesNotExist

from notifications import validators
from notifications.contrib.hq.models import HqNotification
from notifications.db import bulk
from notifications.models import Notification

LEVELS = {"1": "success", "2": "info", "3": "warning", "4": "error"}
#: The key of ``data`` by which imported notifications are found, with the id that they had.
IMPORTED = "hq"
_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)


def make_id(row: HqNotification) -> uuid.UUID:
    """Return the id of the notification that a row becomes: the same each time, and ascending with its time.

    Of version 7 (RFC 9562), with the id of the row in place of what is random.
    """
    milliseconds = (row.timestamp - _EPOCH) // _MILLISECOND
    return uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | 0b10 << 62 | row.pk)


def make_notification(row: HqNotification) -> Notification:
    """Return the unsaved notification that a row becomes. Names and texts that are too long are cut."""
    actor, target, action_object = (_object(row, name) for name in ("actor", "target", "action_object"))
    # As the other app writes it: actor verb [action_object] [on target].
    words = [str(actor) if actor is not None else "", row.verb]
    if action_object is not None:
        words += [str(action_object), "on" if target is not None else ""]
    words.append(str(target) if target is not None else "")
    data: dict[str, Any] = {IMPORTED: row.pk}
    if actor is not None and (name := _cut(actor, validators.MAX_NAME_LENGTH)):
        data["actor"] = {"name": name}
    # An update changes the time of what is read; when it was read is not known.
    return bulk.new(
        Notification,
        id=make_id(row),
        user_id=row.recipient_id,
        title=_cut(" ".join(filter(None, words)), validators.MAX_TITLE_LENGTH) or "-",
        body=_cut(row.description or "", validators.MAX_BODY_LENGTH),
        url=_url_of(target) or _url_of(action_object) or "",
        level=LEVELS.get(str(row.level), row.level if row.level in LEVELS.values() else "info"),
        data=json.dumps(_with_own(row.data, data)),
        created_at=row.timestamp,
        read_at=None if row.unread else row.timestamp,
        archived_at=row.timestamp if row.deleted else None,
    )


def _with_own(stored: Any, own: dict[str, Any]) -> dict[str, Any]:
    """Return what was passed to the other app, where it is a dict of JSON that this app can store, with our keys."""
    try:
        value = json.loads(stored) if isinstance(stored, str) else stored
    except ValueError:
        value = None
    both = {**value, **own} if isinstance(value, dict) else own
    return both if len(json.dumps(both)) <= validators.MAX_DATA_BYTES else own


def _object(row: HqNotification, name: str) -> Any:
    """Return an object that a row names, None if there is none any more, or its class is gone."""
    try:
        return getattr(row, name)
    except (AttributeError, ObjectDoesNotExist, ValueError):
        return None


def _url_of(found: Any) -> str:
    """Return where an object is shown, "" if it does not say."""
    try:
        return validators.link("url", found.get_absolute_url())
    except Exception:  # code of the project
        return ""


def _cut(value: Any, length: int) -> str:
    return validators.label("text", str(value)[:length], length).strip()
