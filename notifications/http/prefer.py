"""What a client would prefer (RFC 7240): that the answer waits, and for how long, or that it does not."""

from __future__ import annotations

import re
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

from notifications.http.waiting import WaitSlot, take_wait_slot
from notifications.problems import Problem
from notifications.request_limits import header

#: Seconds that a client may ask an answer to wait, at most.
MAX_WAIT_SECONDS = 20
#: Seconds after which a client may ask again when too many of its requests wait.
RETRY_AFTER_SECONDS = 5

# A comma inside quotes does not end a preference.
_PREFERENCE = re.compile(r'(?:[^,"]++|"(?:\\.|[^"\\]++)*+"?)++')


def seconds_to_wait(request: HttpRequest) -> int:
    """Return the seconds of ``Prefer: wait=N``, at most 20.

    0 without one, for one that is no number, and under WSGI, where each request that waits would hold a thread of few.
    """
    served = isinstance(getattr(request, "_request", request), ASGIRequest)  # DRF wraps it
    return _seconds(header(request, "Prefer")) if served else 0


def will_not_wait(request: HttpRequest) -> bool:
    """Whether the client would rather be answered at once: ``Prefer: respond-async``."""
    return "respond-async" in _preferences(header(request, "Prefer"))


def wait_slot_or_refuse(user: Any) -> WaitSlot:
    """Return a seat for a request of this user (key) that waits. Raises Problem 429 if too many wait already."""
    seat = take_wait_slot(user)
    if seat is None:
        raise Problem(
            429,
            "Too many requests of this user wait already. End one, or do not wait.",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    return seat


def _seconds(said: str) -> int:
    value = _preferences(said).get("wait", "")
    return (
        min(int(value.lstrip("0")[:9] or 0), MAX_WAIT_SECONDS) if value.isascii() and value.isdigit() else 0
    )


def _preferences(said: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for preference in _PREFERENCE.findall(said):
        name, _, value = preference.partition(";")[0].partition("=")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        found.setdefault(name.strip().lower(), value)  # of several the first counts
    return found
