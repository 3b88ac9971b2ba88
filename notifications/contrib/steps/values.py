"""The results of steps as JSON, from which each value comes back as the type that it had.

Values that JSON does not have are objects with one key, such as ``{"@decimal": "1.10"}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from notifications import validators

#: What is stored with a tag, in this order: a datetime is a date too.
TAGGED: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "@decimal": (Decimal, str, Decimal),
    "@datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
    "@date": (date, date.isoformat, date.fromisoformat),
    "@time": (time, time.isoformat, time.fromisoformat),
    "@uuid": (UUID, str, UUID),
}
#: The key of an object of the task that looks like a tag. It is stored with one more ``@``.
_LIKE_TAG = re.compile(rf"@*(?:{'|'.join(TAGGED)})")
#: Such an object in JSON. Quotes inside strings are escaped there.
_MAY_LOOK_TAGGED = re.compile(rf'\{{"{_LIKE_TAG.pattern}":')


def encode(name: str, value: Any) -> str:
    """Return the result of a step as JSON of at most 1 MiB. Raises TypeError or ValueError.

    Also mappings and sequences that are no dict and no list become an object and an array.
    """
    what = f"The call of the step {name!r} was made, but its result"
    try:
        text = validators.json_text(what, value, validators.MAX_RESULT_BYTES)
        if not _MAY_LOOK_TAGGED.search(text):
            return text
    except TypeError:  # it has a value with a tag, or one that cannot be stored
        pass
    return validators.json_text(what, _tag(what, value), validators.MAX_RESULT_BYTES)


def decode(text: str) -> Any:
    """Return the value that was encoded."""
    return json.loads(text, object_hook=_untag) if '{"@' in text else json.loads(text)


def _tag(what: str, value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(
            f"{what} has {type(value).__name__}, which cannot be stored. Decode it, or store it elsewhere and return "
            "its id."
        )
    if isinstance(value, Mapping):
        tagged = {key: _tag(what, item) for key, item in value.items()}
        if len(tagged) == 1:
            [(key, item)] = tagged.items()
            if isinstance(key, str) and _LIKE_TAG.fullmatch(key):
                return {f"@{key}": item}
        return tagged
    if isinstance(value, Sequence):
        return [_tag(what, item) for item in value]
    for tag, (kind, to_text, _) in TAGGED.items():
        if isinstance(value, kind):
            return {tag: to_text(value)}
    return value


def _untag(item: dict[str, Any]) -> Any:
    if len(item) == 1:
        [(key, value)] = item.items()
        if key in TAGGED:
            return TAGGED[key][2](value)
        if _LIKE_TAG.fullmatch(key):
            return {key[1:]: value}
    return item
