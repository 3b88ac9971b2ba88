"""Limits of values, checked on writing, so that every stored row can be sent."""

from __future__ import annotations

import json
import re
from numbers import Number
from typing import Any
from urllib.parse import urlsplit

from django.utils.functional import Promise

from notifications.context import is_inside_job

#: What apps use. Modules of the core use the other names, too.
__all__ = [
    "MAX_ACTIONS",
    "MAX_BODY_LENGTH",
    "MAX_DATA_BYTES",
    "MAX_KEY_LENGTH",
    "MAX_LABEL_LENGTH",
    "MAX_NAME_LENGTH",
    "MAX_RESULT_BYTES",
    "MAX_TITLE_LENGTH",
    "MAX_URL_LENGTH",
    "decoration",
    "json_text",
    "label",
    "link",
    "printable",
    "shortened",
    "text",
]

#: Characters of the fields of notifications and jobs. A title is also the sentence that says what a dangerous action
#: does. A name is that of a category, a group, a queue, who has caused a notification, or what it is about.
MAX_TITLE_LENGTH = 200
MAX_BODY_LENGTH = 2_000
MAX_URL_LENGTH = 1_000
MAX_KEY_LENGTH = 200
MAX_NAME_LENGTH = 100
#: Actions of a notification, and characters of the label of one.
MAX_ACTIONS, MAX_LABEL_LENGTH = 3, 40
#: Characters of the detail of an error, and of a progress message.
MAX_DETAIL_LENGTH = 2_000
MAX_PROGRESS_LENGTH = 200
#: Bytes of JSON: the data of a notification, an item on the wire, the arguments and the result of a job.
MAX_DATA_BYTES = 4 * 1024
MAX_ITEM_BYTES = 32 * 1024
MAX_ARGUMENTS_BYTES = 256 * 1024
MAX_RESULT_BYTES = 1024 * 1024
#: Longer headers are not parsed: several parsers, Python's among them, take quadratic time for hostile values.
MAX_HEADER_BYTES = 2048
#: The greatest integer that JavaScript represents exactly.
MAX_INTEGER = 2**53 - 1

_UNPRINTABLE = re.compile("[\0\ud800-\udfff]")
_FORBIDDEN_IN_LINKS = re.compile(r"[\x00-\x20\x7f\\]")
#: json.dumps() makes a new encoder for each call with these arguments.
_STRICT_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def text(name: str, value: Any, limit: int, *, required: bool = False) -> str:
    """Return ``value`` if it is a string of at most ``limit`` characters that JSON and the databases can hold.

    ``name`` is the name of the field in errors. A lazy translation is translated to the active language.
    Raises TypeError or ValueError.
    """
    if isinstance(value, Promise):
        value = str(value)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}.")
    if required and not value.strip():
        raise ValueError(f"{name} is empty. Pass a short text.")
    if len(value) > limit:
        raise ValueError(f"{name} has {len(value)} characters. At most {limit} are allowed. Shorten it.")
    if "\0" in value or not (value.isascii() or encodable(value)):
        raise ValueError(f"{name} contains NUL or a lone surrogate, which cannot be stored. Remove it.")
    return value


def label(name: str, value: Any, limit: int, *, required: bool = False) -> str:
    """Return a text that people read, such as a title, as ``text()`` does. Below a running job it is not refused.

    There it is cut and made printable, and ``…`` if it is required and empty: a job must not fail by it after hours of
    work.
    """
    if isinstance(value, str | Promise) and is_inside_job():
        value = shortened(printable(str(value)), limit)
        if required and not value.strip():
            value = "…"
    return text(name, value, limit, required=required)


def decoration(value: Any) -> str:
    """Return what a job says about its work as text, ``""`` if ``str()`` of it raises. Raises nothing."""
    try:
        return printable(value.decode(errors="replace") if isinstance(value, bytes) else str(value))
    except Exception:  # a class of the project may raise anything
        return ""


def printable(value: str) -> str:
    """Return ``value`` with U+FFFD in place of NUL and lone surrogates, which cannot be stored."""
    if "\0" not in value and (value.isascii() or encodable(value)):  # a fifth of the time
        return value
    return _UNPRINTABLE.sub("\ufffd", value)


def shortened(value: str, limit: int) -> str:
    """Return ``value`` cut to at most ``limit`` characters, with an ellipsis if it is cut."""
    return value if len(value) <= limit else f"{value[: limit - 1]}…"


def encodable(value: str) -> bool:
    """Return whether ``value`` can be encoded as UTF-8, so has no lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def link(name: str, value: Any) -> str:
    """Return ``value`` if it is a path that begins with one ``/`` or an http(s) URL; ``""`` for None.

    Raises TypeError or ValueError.
    """
    if value is None or value == "":
        return ""
    value = text(name, value, MAX_URL_LENGTH)
    if _FORBIDDEN_IN_LINKS.search(value):
        raise ValueError(f"{name} contains a space, a backslash or a control character. Percent-encode it.")
    if value.startswith("/") and not value.startswith("//"):
        return value
    try:
        parts = urlsplit(value)
        is_valid = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and value.lower().startswith(parts.scheme + "://")
        )
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError(
            f"{name} is {value[:100]!r}. It must be a path that begins with one '/', or an http(s) URL."
        )
    return value


def actions(value: Any) -> list[dict[str, str]]:
    """Return ``value`` if it is a list of at most three actions: dicts of ``label`` and either ``url`` or ``post``.

    One that destroys something has ``danger`` too, the sentence that says what.
    Raises TypeError or ValueError.
    """
    if not isinstance(value, list | tuple):
        raise TypeError(f"actions must be a list of dicts, not {type(value).__name__}.")
    if len(value) > MAX_ACTIONS:
        raise ValueError(f"actions has {len(value)} items. At most {MAX_ACTIONS} are allowed.")
    return [_action(f"actions[{index}]", item) for index, item in enumerate(value)]


def _action(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be a dict, not {type(value).__name__}.")
    if set(value) - {"danger"} not in ({"label", "url"}, {"label", "post"}):
        raise ValueError(
            f"{name} must have the keys 'label' and either 'url' or 'post', and may have 'danger'."
        )
    shown = label(f"{name}['label']", value["label"], MAX_LABEL_LENGTH, required=True)
    kind = "url" if "url" in value else "post"
    target = link(f"{name}[{kind!r}]", value[kind])
    if not target:
        raise ValueError(f"{name}[{kind!r}] is empty. Pass where the action leads.")
    if kind == "post" and not target.startswith("/"):
        raise ValueError(
            f"{name}['post'] must be a path of this site, because it is sent with the CSRF token."
        )
    action = {"label": shown, kind: target}
    if "danger" in value:
        action["danger"] = label(f"{name}['danger']", value["danger"], MAX_TITLE_LENGTH, required=True)
    return action


def party(name: str, value: Any, link_key: str) -> dict[str, str]:
    """Return who has caused a notification, or what it is about: a dict of ``name``, and of a link if it has one.

    ``value`` is a name, or a dict of ``name`` and ``link_key``. Raises TypeError or ValueError.
    """
    if not isinstance(value, dict | str | Promise):
        raise TypeError(
            f"{name} must be a name, or a dict of 'name' and {link_key!r}, not {type(value).__name__}."
        )
    if not isinstance(value, dict):
        return {"name": label(name, value, MAX_NAME_LENGTH, required=True)}
    if "name" not in value or set(value) - {"name", link_key}:
        raise ValueError(f"{name} must have the key 'name', and may have {link_key!r}.")
    result = {"name": label(f"{name}['name']", value["name"], MAX_NAME_LENGTH, required=True)}
    if target := link(f"{name}[{link_key!r}]", value.get(link_key)):
        result[link_key] = target
    return result


def json_text(name: str, value: Any, limit: int = MAX_ARGUMENTS_BYTES, *, is_plural: bool = False) -> str:
    """Return ``value`` as strict JSON of at most ``limit`` bytes: no NaN, no NUL, no lone surrogate.

    ``name`` is that of the value in errors, ``is_plural`` says whether it is one of several things.

    Raises TypeError or ValueError.
    """
    try:
        encoded = _STRICT_JSON.encode(value)
    except (TypeError, ValueError, RecursionError) as exc:
        raise type(exc)(
            f"{name} cannot be written as JSON: {exc}. Pass ids, numbers, strings, lists and dicts."
        ) from exc
    is_ascii = encoded.isascii()
    if ("\\u0000" in encoded and _has_nul(value)) or not (is_ascii or encodable(encoded)):
        verb = "contain" if is_plural else "contains"
        raise ValueError(f"{name} {verb} NUL or a lone surrogate, which cannot be stored. Remove it.")
    size = len(encoded if is_ascii else encoded.encode())
    if size > limit:
        verb = "have" if is_plural else "has"
        raise ValueError(
            f"{name} {verb} {size} bytes of JSON. At most {limit} are allowed. Store it elsewhere and pass its id."
        )
    return encoded


def integer(value: Any) -> int | None:
    """Return ``value`` as an integer, at least 0 and at most 2^53-1, or None if it is no number. Raises nothing."""
    if not isinstance(value, Number | str):  # whose class may raise anything
        return None
    try:
        return min(max(int(value), 0), MAX_INTEGER)  # type: ignore[arg-type]
    except (TypeError, ValueError, ArithmeticError):
        return None


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return any(_has_nul(item) for item in value)
    return False
