"""Parse headers, query strings and bodies of requests. What is invalid raises a Problem that names the field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.http import HttpRequest, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.utils.translation import gettext

from notifications import times
from notifications.models.streams import NotificationLevel
from notifications.problems import Problem
from notifications.streams.marking_seen import MAX_RECEIPTS, Receipt
from notifications.validators import MAX_HEADER_BYTES, MAX_INTEGER, encodable

#: Size of a body of the API.
MAX_BODY_BYTES = 1024 * 1024
#: Items of a page of a list: by default, and at most.
DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 50, 100
#: Length of an integer in JSON.
MAX_INTEGER_DIGITS = 400
#: What is older is not stored: the clock of the browser was set forward.
MAX_RECEIPT_AGO_MS = 366 * 86_400_000
RECEIPT_KEYS = {"raised", "received_ago_ms", "toast_ago_ms"}
#: What User-Agent contains, the specific ones first: most browsers name others too.
BROWSERS = (
    ("Edge", ("Edg/", "EdgA/", "EdgiOS/")),
    ("Opera", ("OPR/", "OPT/")),
    ("Samsung Internet", ("SamsungBrowser/",)),
    ("Firefox", ("Firefox/", "FxiOS/")),
    ("Chrome", ("Chrome/", "CriOS/", "Chromium/")),
    ("Safari", ("Safari/",)),
)
SYSTEMS = (
    ("Android", ("Android",)),
    ("iPhone", ("iPhone",)),
    ("iPad", ("iPad",)),
    ("Windows", ("Windows",)),
    ("ChromeOS", ("CrOS",)),
    ("macOS", ("Macintosh", "Mac OS X")),
    ("Linux", ("Linux", "X11")),
)


def read_header(request: HttpRequest, name: str) -> str:
    """Return a header of the request, ``""`` if it is absent or longer than 2 kB."""
    value: str = request.headers.get(name, "")
    return value if len(value) <= MAX_HEADER_BYTES else ""


def describe_browser(user_agent: str) -> str:
    """Return a name for the browser of a request, like "Firefox on Linux"."""
    agent = user_agent[:MAX_HEADER_BYTES]
    browser, system = (
        next((name for name, parts in names if any(part in agent for part in parts)), "")
        for names in (BROWSERS, SYSTEMS)
    )
    if browser and system:
        return gettext("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    return browser or system or gettext("Unknown browser")


def parse_json_object(request: HttpRequest) -> dict[str, Any]:
    """Return the JSON object of the body. Raises Problem 400, 413, 415 or 422."""
    if request.content_type != "application/json":
        content_type = f"is {request.content_type}" if request.content_type else "has no Content-Type"
        raise Problem(415, f"The body {content_type}. Send application/json.")
    try:
        if len(request.body) > MAX_BODY_BYTES:  # it had no Content-Length
            raise body_too_large()
        value = _parse_strict_json(request.body)
    except RequestDataTooBig as exc:
        raise body_too_large() from exc
    except (ValueError, RecursionError, UnreadablePostError) as exc:
        reason = "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)[:200]
        raise Problem(
            400, f"The body is not valid JSON: {reason}. Send one JSON object, encoded as UTF-8."
        ) from exc
    if not isinstance(value, dict):
        raise Problem(422, 'The body must be a JSON object, for example {"up_to": 7}.')
    return value


def parse_integer(value: Any, field: str, *, maximum: int = MAX_INTEGER) -> int:
    """Return a value of a body that is an integer from 0 to ``maximum``. Raises Problem 422."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= maximum:
        raise Problem(422, f"{field} must be an integer from 0 to {maximum}.", field=field)
    return value


def parse_uuids(value: Any, field: str, max_count: int) -> list[UUID]:
    """Return a list of at most ``max_count`` UUIDs. Raises Problem 422."""
    if not isinstance(value, list) or len(value) > max_count:
        raise Problem(422, f"{field} must be a list of at most {max_count} ids.", field=field)
    try:
        if not all(isinstance(id, str) for id in value):
            raise ValueError
        return [UUID(id) for id in value]
    except ValueError as exc:
        raise Problem(422, f"{field} must contain ids only. An id is a UUID.", field=field) from exc


def parse_query_integer(request: HttpRequest, field: str, *, maximum: int = MAX_INTEGER) -> int | None:
    """Return an integer of the query string, None if it is absent. Raises Problem 422."""
    value: Any = request.GET.get(field)
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    return parse_integer(value, field, maximum=maximum)


def parse_limit(request: HttpRequest, default: int = DEFAULT_PAGE_SIZE) -> int:
    """Return ``limit`` of the query string, reduced to ``MAX_PAGE_SIZE``. Raises Problem 422."""
    value = request.GET.get("limit")
    if value is None:
        return default
    if value.isascii() and value.isdigit() and value.strip("0"):
        return min(int(value.lstrip("0")[:9]), MAX_PAGE_SIZE)
    raise Problem(422, "limit must be an integer of 1 or more.", field="limit")


def check_text(value: Any, field: str) -> str | None:
    """Return a category or group of a query string or a body, None if it is absent. Raises Problem 422."""
    if value is None:
        return None
    if not isinstance(value, str) or "\0" in value or not encodable(value):
        raise Problem(422, f"{field} must be text without NUL characters.", field=field)
    return value


def check_level(value: Any) -> str:
    """Return a level of a query string or a body. Raises Problem 422."""
    if value not in NotificationLevel.values:
        raise Problem(422, f"level must be one of {', '.join(NotificationLevel.values)}.", field="level")
    return str(value)


def parse_receipts(value: Any) -> list[Receipt]:
    """Return the receipts of notifications. Raises Problem 422."""
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_RECEIPTS:
        raise Problem(422, f"receipts must be a list of at most {MAX_RECEIPTS} objects.", field="receipts")
    now = times.now()
    receipts = []
    for number, item in enumerate(value):
        name = f"receipts[{number}]"
        if not isinstance(item, dict) or not item.keys() <= RECEIPT_KEYS:
            raise Problem(
                422, f"{name} must be an object with: {', '.join(sorted(RECEIPT_KEYS))}.", field="receipts"
            )
        raised, received = (
            parse_integer(item.get(key), f"{name}.{key}") for key in ("raised", "received_ago_ms")
        )
        toast = item.get("toast_ago_ms")
        if toast is not None:
            toast = parse_integer(toast, f"{name}.toast_ago_ms")
        if max(received, toast or 0) > MAX_RECEIPT_AGO_MS:
            continue
        # Not before it was received, as a clock that was set back in between would say.
        toast_at = None if toast is None else now - timedelta(milliseconds=min(toast, received))
        receipts.append(Receipt(raised, now - timedelta(milliseconds=received), toast_at))
    return receipts


def check_content_length(request: HttpRequest, limit: int = MAX_BODY_BYTES) -> None:
    """Check the length that a request declares. Raises Problem 400 or 413."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdigit()):
        raise Problem(400, "Content-Length must be a number of bytes.")
    if int(length[:19]) > limit:
        raise body_too_large(limit)


@contextmanager
def body_errors_as_problems() -> Iterator[None]:
    """Convert what Django raises for a body or form that it cannot read. Raises Problem 400 or 413."""
    try:
        yield
    except RequestDataTooBig as exc:
        raise Problem(413, "The body is too large. Send a smaller one.") from exc
    except (SuspiciousOperation, BadRequest, MultiPartParserError, UnreadablePostError) as exc:
        raise Problem(
            400, "The body cannot be read. Send a complete body that matches its Content-Type."
        ) from exc


def read_body(request: HttpRequest, limit: int) -> bytes:
    """Return the body of a request, of at most ``limit`` bytes. Raises Problem 400 or 413."""
    check_content_length(request, limit)
    with body_errors_as_problems():
        body = request.body
    if len(body) > limit:  # it had no Content-Length
        raise body_too_large(limit)
    return body


def body_too_large(limit: int = MAX_BODY_BYTES) -> Problem:
    """Return the problem of a body of more bytes than this."""
    return Problem(413, f"The body is too large. Send at most {limit} bytes.")


def _parse_strict_json(body: bytes) -> Any:
    return json.loads(
        body.decode(),
        parse_constant=_refuse_constant,
        parse_int=_parse_bounded_int,
        object_pairs_hook=_refuse_duplicate_keys,
    )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _parse_bounded_int(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise ValueError(f"an integer has more than {MAX_INTEGER_DIGITS} digits")
    return int(digits)


def _refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("an object has a duplicate key")
    return result
