"""Bind the URLs of a page to the user for whom the page was rendered.

A page may stay open while another user signs in in the same browser, whose cookies it then sends. The template tag adds
a token of the page's user to its URLs, and requests of any other user are refused: a page never shows the notifications
of another user, and never marks them as read.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from django.conf import settings
from django.utils.crypto import salted_hmac

PARAMETER = "viewer"


def make_token(user: Any, *, secret: str | bytes | None = None) -> str:
    """Return a token that differs for each user key and does not disclose it."""
    return salted_hmac("notifications.browser", str(user), secret=secret, algorithm="sha256").hexdigest()[:16]


def is_page_of(query: str, user: Any) -> bool:
    """Return whether a URL with this query string is for this user key. One without a token is for every user."""
    if f"{PARAMETER}=" not in query:
        return True
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    token = parse_qs(query).get(PARAMETER, [""])[0]
    return token in (make_token(user, secret=secret) for secret in secrets)
