"""Bounds, checked on writing, so that whatever is stored can be sent. Every error says what, why and the remedy."""

from __future__ import annotations

import json
import math
import re
from typing import Any
from urllib.parse import urlsplit

from django.utils.functional import Promise

TITLE, BODY, URL, CATEGORY, KEY, QUEUE = 200, 2_000, 1_000, 100, 200, 100
DETAIL, PROGRESS = 2_000, 200
#: Bytes of JSON.
DATA, ITEM = 4 * 1024, 32 * 1024
#: Bytes of JSON of the arguments, and of the result, of a job.
ARGUMENTS, RESULT = 256 * 1024, 1024 * 1024
#: The greatest integer that JSON carries safely to a browser.
INTEGER = 2**53 - 1

_NOT_IN_LINKS = re.compile(r"[\x00-\x20\x7f\\]")


def text(name: str, value: Any, limit: int, *, required: bool = False) -> str:
    """Return ``value`` if it is a string of at most ``limit`` characters that JSON and the databases can hold.

    Raises TypeError or ValueError.
    """
    if isinstance(value, Promise):
        value = str(value)  # a lazy translation: in the language that is active now
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}.")
    if required and not value.strip():
        raise ValueError(f"{name} is empty. Say in a few words what it is about.")
    if len(value) > limit:
        raise ValueError(f"{name} has {len(value)} characters. At most {limit} are allowed: shorten it.")
    if "\0" in value or not encodable(value):
        raise ValueError(f"{name} has a NUL or half of a surrogate pair. Neither can be stored: remove it.")
    return value


def shortened(value: str, limit: int) -> str:
    """Return ``value`` with at most ``limit`` characters: for a text that the app derives from what others wrote."""
    return value if len(value) <= limit else f"{value[: limit - 1]}…"


def encodable(value: str) -> bool:
    """Whether ``value`` can be written as UTF-8 (it has no lone surrogates)."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def link(name: str, value: Any) -> str:
    """Return a path that begins with one ``/`` or an http(s) address; ``""`` for None.

    Raises TypeError or ValueError.
    """
    if value is None or value == "":
        return ""
    value = text(name, value, URL)
    if _NOT_IN_LINKS.search(value):
        raise ValueError(f"{name} has a space, a backslash or a control character. Percent-encode it.")
    if value.startswith("/") and not value.startswith("//"):
        return value
    try:
        parts = urlsplit(value)
        good = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and value.lower().startswith(parts.scheme + "://")
        )
    except ValueError:
        good = False
    if not good:
        raise ValueError(
            f"{name} is {value[:100]!r}. It must be a path that begins with one '/', or an http(s) address."
        )
    return value


def json_text(name: str, value: Any, limit: int) -> str:
    """Return ``value`` as strict JSON of at most ``limit`` bytes: no NaN, no NUL, no lone surrogate.

    Raises TypeError or ValueError.
    """
    try:
        encoded = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as exc:
        raise type(exc)(
            f"{name} cannot be written as JSON: {exc}. Pass ids, numbers, strings, lists and dicts."
        ) from exc
    if ("\\u0000" in encoded and _has_nul(value)) or not encodable(encoded):
        raise ValueError(f"{name} has a NUL or half of a surrogate pair. Neither can be stored: remove it.")
    size = len(encoded.encode())
    if size > limit:
        raise ValueError(
            f"{name} takes {size} bytes of JSON. At most {limit} are allowed: store it elsewhere, pass its id."
        )
    return encoded


def integer(name: str, value: Any) -> int:
    """Return a number from 0 to 2^53-1, of a float its whole part. Raises TypeError or ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}. It must be a whole number.")
    if not 0 <= value <= INTEGER:
        raise ValueError(f"{name} is {value}. It must be from 0 to {INTEGER}.")
    return int(value)


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return any(_has_nul(item) for item in value)
    return False
