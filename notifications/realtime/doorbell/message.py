"""What the doorbells of processes say to one another: who rang, for whom, and whether the job queue has something new.

``{"type": "doorbell", "from": …, "users": […], "queue": false}``; keys of users are strings there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from django.core.exceptions import ValidationError

from notifications.models import Stream

#: Users of one message at most.
USERS = 500
#: Bytes of all keys of one message, as JSON, at most: NOTIFY takes 7,999 bytes with the rest.
BYTES = 7_800


def messages(origin: str, users: Iterable[Any], queue: bool) -> Iterator[dict[str, Any]]:
    """Say a ring of ``origin`` (a process) in as many messages as its users (keys) need, at least one.

    A key that is too long for a message is left out: that user's news come by the position check.
    """
    some: list[str] = []
    size = 0
    for key in map(str, users):
        bytes_ = len(json.dumps(key)) + 2
        if bytes_ > BYTES:
            continue
        if len(some) == USERS or size + bytes_ > BYTES:
            yield _message(origin, some, queue)
            some, size, queue = [], 0, False
        some.append(key)
        size += bytes_
    yield _message(origin, some, queue)


def read(message: Any, origin: str) -> tuple[set[Any], bool] | None:
    """Return users (keys) and queue of a message; None for one of ``origin`` itself, and for what is no ring."""
    if not isinstance(message, dict) or message.get("type") != "doorbell" or message.get("from") == origin:
        return None
    users = message.get("users")
    if not isinstance(users, (list, tuple)):
        return None
    to_python = Stream._meta.pk.target_field.to_python
    try:
        return {to_python(user) for user in users}, message.get("queue") is True
    except (ValidationError, TypeError):  # of a project with other keys, on the same broker
        return None


def _message(origin: str, users: list[str], queue: bool) -> dict[str, Any]:
    return {"type": "doorbell", "from": origin, "users": users, "queue": queue}
