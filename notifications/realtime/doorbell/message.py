"""The messages that doorbells of different processes exchange.

``{"type": "doorbell", "from": origin, "users": […], "queue": false}``: Channels dispatches on ``type``, ``from``
identifies the process, ``users`` are user keys as strings, ``queue`` says that the job queue has something new.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from django.core.exceptions import ValidationError

from notifications.models import Stream

MAX_USERS_PER_MESSAGE = 500
#: Bytes of all keys in a message, as JSON. NOTIFY takes 7,999 bytes, with the rest of the message.
MAX_KEY_BYTES_PER_MESSAGE = 7_800


def build_messages(origin: str, users: Iterable[Any], queue: bool) -> Iterator[dict[str, Any]]:
    """Yield the messages for one ring of the process ``origin``: as many as its user keys need, at least one.

    A key that is too long for a message is left out; the position check finds that user's changes.
    """
    keys: list[str] = []
    total_bytes = 0
    for key in map(str, users):
        key_bytes = len(json.dumps(key)) + 2
        if key_bytes > MAX_KEY_BYTES_PER_MESSAGE:
            continue
        if len(keys) == MAX_USERS_PER_MESSAGE or total_bytes + key_bytes > MAX_KEY_BYTES_PER_MESSAGE:
            yield _build_message(origin, keys, queue)
            keys, total_bytes, queue = [], 0, False
        keys.append(key)
        total_bytes += key_bytes
    yield _build_message(origin, keys, queue)


def parse_message(message: Any, origin: str) -> tuple[set[Any], bool] | None:
    """Return the user keys and the queue flag of a message. None if ``origin`` itself sent it, or it is not a ring."""
    if not isinstance(message, dict) or message.get("type") != "doorbell" or message.get("from") == origin:
        return None
    users = message.get("users")
    if not isinstance(users, (list, tuple)):
        return None
    to_python = Stream._meta.pk.target_field.to_python
    try:
        return {to_python(user) for user in users}, message.get("queue") is True
    except (ValidationError, TypeError):  # a project with another type of user key shares the broker
        return None


def _build_message(origin: str, users: list[str], queue: bool) -> dict[str, Any]:
    return {"type": "doorbell", "from": origin, "users": users, "queue": queue}
