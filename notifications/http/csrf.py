"""Where the project keeps its CSRF token, and where it wants to be sent it."""

from __future__ import annotations

from django.conf import settings


def header() -> str:
    """Return the name of the header in which the token is sent."""
    return settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-").title()


def readable_cookie() -> str:
    """Return the name of the cookie from which scripts may read the token; empty where there is none."""
    return "" if settings.CSRF_USE_SESSIONS or settings.CSRF_COOKIE_HTTPONLY else settings.CSRF_COOKIE_NAME


def source() -> str:
    """Say where a program finds the token."""
    if settings.CSRF_USE_SESSIONS:
        return "the csrfmiddlewaretoken of a form"
    return f"the value of the cookie {settings.CSRF_COOKIE_NAME}"


def remedy(reason: str) -> str:
    """Say how to mend what Django's check found."""
    if reason.startswith(("Origin ", "Referer ")):
        return "Ask from a page of this site, or of one that CSRF_TRUSTED_ORIGINS names."
    return f"Send {source()} in the header {header()}."
