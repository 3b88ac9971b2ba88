"""Whether a page that opens a WebSocket is one of ours. Browsers apply no same-origin rule to WebSockets."""

from __future__ import annotations

import re

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from notifications.conf import settings

ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
DEFAULT_PORTS = {"http": "80", "https": "443"}


def is_allowed(origins: list[bytes], request: HttpRequest) -> bool:
    """Whether there is one Origin header, equal to scheme, host and port of the request or listed in
    ``NOTIFICATIONS["ORIGINS"]``."""
    if len(origins) != 1:
        return False
    origin = parts(origins[0].decode("latin-1"))
    if origin is None:
        return False
    try:
        here = parts(f"{request.scheme}://{request.get_host()}")
    except DisallowedHost:
        return False
    return origin == here or origin in map(parts, settings.ORIGINS)


def parts(origin: str) -> tuple[str, str, str] | None:
    """Return scheme, host and port of an origin, in lower case and with the scheme's port; None if it is none."""
    found = ORIGIN.fullmatch(origin.lower())
    if found is None:
        return None
    scheme, host, port = found.groups()
    if port is not None and not 0 < int(port) < 65536:
        return None
    return scheme, host, str(int(port)) if port else DEFAULT_PORTS.get(scheme, "")
