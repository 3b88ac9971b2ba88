"""What the head of a response says of a limit.

``Retry-After`` of a 429 or 503 (RFC 9110, section 10.2.3), ``RateLimit`` and ``RateLimit-Policy``
(draft-ietf-httpapi-ratelimit-headers-09: remaining quota ``r`` for ``t`` seconds of a policy with the window ``w``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

#: Characters of a field that are read.
MAX_FIELD_LENGTH = 2_000
#: Seconds for which a limit is closed after a 429 that does not say for how long.
DEFAULT_SECONDS = 5.0

_ITEM = re.compile(r'"(?P<name>[^"\\]{0,100})"(?P<parameters>(?:;[a-z]{1,10}=[^;,\s]{0,30})*)')

_NUMBER = re.compile("[0-9]{1,9}")


class Correction(NamedTuple):
    """``left`` requests are allowed now, None: none for ``seconds``. ``header`` is what says so."""

    left: int | None
    seconds: float
    header: str


def read(status: int, headers: Mapping[str, str], retry_after: float | None) -> Correction | None:
    """Return what the head of a response says of its limit, None for nothing. ``retry_after`` is in seconds."""
    if status in (429, 503) and retry_after is not None:
        return Correction(None, retry_after, f"Retry-After: {headers.get('Retry-After', '')[:40]}")
    field = headers.get("RateLimit", "")[:MAX_FIELD_LENGTH]
    windows = (
        {name: parameters.get("w") for name, parameters in _items(headers.get("RateLimit-Policy", ""))}
        if field
        else {}
    )
    found: Correction | None = None
    for name, parameters in _items(field):
        left = parameters.get("r")
        if left is None:
            continue
        seconds = parameters.get("t", windows.get(name))
        text = f'RateLimit: "{name}";r={left}' + ("" if seconds is None else f";t={seconds}")
        if left == 0 and seconds is not None:
            if found is None or found.left is not None or found.seconds < seconds:
                found = Correction(None, float(seconds), text)
        elif found is None or (found.left is not None and found.left > left):
            found = Correction(left, float(seconds or 0), text)
    if found is None and status == 429:
        return Correction(None, DEFAULT_SECONDS, "429 Too Many Requests")
    return found


def _items(field: str) -> list[tuple[str, dict[str, int]]]:
    items = []
    for match in _ITEM.finditer(field[:MAX_FIELD_LENGTH]):
        pairs = (pair.partition("=") for pair in match["parameters"].split(";"))
        items.append(
            (match["name"], {key: int(value) for key, _, value in pairs if _NUMBER.fullmatch(value)})
        )
    return items
