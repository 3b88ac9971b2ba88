"""Names of the project's CSRF header and cookie, and what to do when Django's CSRF check fails."""

from __future__ import annotations

from django.conf import settings


def header_name() -> str:
    """Return the name of the request header for the token."""
    return settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-").title()


def readable_cookie_name() -> str:
    """Return the name of the cookie from which scripts can read the token, empty if they cannot."""
    return "" if settings.CSRF_USE_SESSIONS or settings.CSRF_COOKIE_HTTPONLY else settings.CSRF_COOKIE_NAME


def token_source() -> str:
    """Return a phrase that names where a program finds the token."""
    if settings.CSRF_USE_SESSIONS:
        return "the csrfmiddlewaretoken of a form"
    return f"the value of the cookie {settings.CSRF_COOKIE_NAME}"


def remedy(reason: str) -> str:
    """Return the sentence that tells how to fix a failed CSRF check. ``reason`` is Django's."""
    if reason.startswith(("Origin ", "Referer ")):
        return "Send the request from a page of this site, or of an origin in CSRF_TRUSTED_ORIGINS."
    return f"Send {token_source()} in the header {header_name()}."
