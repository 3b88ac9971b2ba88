"""Check the Origin of a WebSocket handshake. Browsers do not apply the same-origin policy to WebSockets."""

from __future__ import annotations

import re

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from notifications.conf import settings

ORIGIN_PATTERN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
DEFAULT_PORTS = {"http": "80", "https": "443"}


def is_allowed(origins: list[bytes], request: HttpRequest) -> bool:
    """Return whether there is exactly one Origin header and it is allowed.

    Allowed are the request's own scheme, host and port, and those listed in ``NOTIFICATIONS["ORIGINS"]``.
    """
    if len(origins) != 1:
        return False
    origin = parse_origin(origins[0].decode("latin-1"))
    if origin is None:
        return False
    try:
        own_origin = parse_origin(f"{request.scheme}://{request.get_host()}")
    except DisallowedHost:
        return False
    return origin == own_origin or origin in map(parse_origin, settings.ORIGINS)


def parse_origin(origin: str) -> tuple[str, str, str] | None:
    """Return scheme, host and port of an origin, in lower case, with the default port. None if it is malformed."""
    match = ORIGIN_PATTERN.fullmatch(origin.lower())
    if match is None:
        return None
    scheme, host, port = match.groups()
    if port is not None and not 0 < int(port) < 65536:
        return None
    return scheme, host, str(int(port)) if port else DEFAULT_PORTS.get(scheme, "")
