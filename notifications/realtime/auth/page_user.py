"""For whom a page was made: it may stay open while somebody else signs in in its browser, and send their cookies then.

So the addresses that the template tag gives a page carry a mark of its user, and are refused for anybody else: nobody's
notifications come into another one's page, nor are they marked as read from there.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from django.conf import settings
from django.utils.crypto import salted_hmac

PARAMETER = "viewer"


def mark(user: Any, *, secret: str | bytes | None = None) -> str:
    """Return what tells a user (key) from another one in a browser, without saying who it is."""
    return salted_hmac("notifications.browser", str(user), secret=secret, algorithm="sha256").hexdigest()[:16]


def is_meant(query: str, user: Any) -> bool:
    """Whether an address with this query string is for this user (key). One without a mark is for anybody."""
    if f"{PARAMETER}=" not in query:
        return True
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    said = parse_qs(query).get(PARAMETER, [""])[0]
    return said in (mark(user, secret=secret) for secret in secrets)
