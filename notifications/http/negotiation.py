"""Read the request headers that choose the form of a response: ``Accept``, ``If-None-Match`` and ``Prefer``."""

from __future__ import annotations

import re

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.utils.http import parse_etags

from notifications.http.parsing import read_header
from notifications.validators import MAX_HEADER_BYTES

#: Longest time that ``Prefer: wait=N`` can delay a response.
MAX_WAIT_SECONDS = 20

# Every parameter of a media type except its weight. The quantifiers are possessive, so the time is linear.
_PARAMETERS = re.compile(r';\s*+(?!q\s*+=)[^;,"]*+(?:"[^"]*+"[^;,"]*+)*+', re.IGNORECASE)
# A comma inside quotes does not end a preference.
_PREFERENCE = re.compile(r'(?:[^,"]++|"(?:\\.|[^"\\]++)*+"?)++')


def preferred_media_type(request: HttpRequest, media_types: list[str]) -> str | None:
    """Return the one of ``media_types`` that ``Accept`` prefers, or None if it accepts none of them.

    Also None for an ``Accept`` that cannot be parsed or is longer than 2 kB. Parameters of media types are ignored:
    ``application/json; charset=utf-8`` is JSON.
    """
    accept = request.META.get("HTTP_ACCEPT", "*/*")
    if len(accept) > MAX_HEADER_BYTES:
        return None
    plain_request = HttpRequest()
    plain_request.META["HTTP_ACCEPT"] = _PARAMETERS.sub("", accept)
    try:
        return plain_request.get_preferred_type(media_types)
    except ValueError:
        return None


def prefers_html(request: HttpRequest) -> bool:
    """Return whether the client is a browser that asks for a page rather than for JSON."""
    return preferred_media_type(request, ["application/json", "text/html"]) == "text/html"


def if_none_match(request: HttpRequest) -> list[str] | None:
    """Return the entity tags of ``If-None-Match`` without their weak prefix, ``["*"]``, or None if there are none."""
    etags = parse_etags(read_header(request, "If-None-Match"))
    return [etag.removeprefix("W/") for etag in etags] or None


def is_not_modified(etag: str, request: HttpRequest) -> bool:
    """Return whether ``If-None-Match`` names this entity tag, so that the response is 304."""
    etags = if_none_match(request)
    return etags is not None and (etags == ["*"] or etag in etags)


def wait_seconds(request: HttpRequest) -> int:
    """Return the seconds of ``Prefer: wait=N``, at most 20.

    0 without the preference, for a value that is not a number, and under WSGI, where each waiting request would hold
    one of few threads.
    """
    django_request = getattr(request, "_request", request)  # Django REST framework wraps it
    return parse_wait(read_header(request, "Prefer")) if isinstance(django_request, ASGIRequest) else 0


def prefers_async(request: HttpRequest) -> bool:
    """Return whether the client does not want to wait for the result: ``Prefer: respond-async``."""
    return "respond-async" in _parse_preferences(read_header(request, "Prefer"))


def parse_wait(prefer: str) -> int:
    """Return the seconds of ``wait`` in a ``Prefer`` header (RFC 7240), 0 if it is absent or not a number."""
    value = _parse_preferences(prefer).get("wait", "")
    if not (value.isascii() and value.isdigit()):
        return 0
    return min(int(value.lstrip("0")[:9] or 0), MAX_WAIT_SECONDS)


def _parse_preferences(prefer: str) -> dict[str, str]:
    preferences: dict[str, str] = {}
    for preference in _PREFERENCE.findall(prefer):
        name, _, value = preference.partition(";")[0].partition("=")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        preferences.setdefault(name.strip().lower(), value)  # the first of equal names counts
    return preferences
