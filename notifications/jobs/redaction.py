"""Values of jobs as people are shown them: without secrets, which the names of arguments and keys give away."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

#: Words of the names whose values are never shown.
SECRET_WORDS = frozenset(
    (
        "password",
        "passwd",
        "pwd",
        "passphrase",
        "pin",
        "otp",
        "secret",
        "secrets",
        "token",
        "tokens",
        "key",
        "keys",
        "apikey",
        "credential",
        "credentials",
        "auth",
        "authorization",
        "cookie",
        "cookies",
        "session",
        "sessionid",
        "signature",
        "csrf",
        "jwt",
        "bearer",
        "accesstoken",
        "privatekey",
    )
)
#: Characters of one value, and nested values, that are shown.
MAX_VALUE_CHARS, MAX_DEPTH = 500, 20
HIDDEN = "•••"

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def describe_value(name: str, value: Any, redacted: frozenset[str]) -> str:
    """Return a value as JSON without secrets. ``redacted`` are the names whose values the policy hides."""
    if not name:  # The task is unknown here, so that nothing says what the value is.
        return type(value).__name__
    text = json.dumps(redact(name, value, redacted), ensure_ascii=False)
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}…"


def redact(name: str, value: Any, redacted: frozenset[str]) -> Any:
    """Return a value with ``HIDDEN`` in place of its secrets."""
    return _redact(name, value, redacted, MAX_DEPTH)


@lru_cache(maxsize=1000)
def is_secret(name: str, redacted: frozenset[str] = frozenset()) -> bool:
    """Return whether the value of an argument or key with this name is hidden."""
    if name in redacted or name.lower().replace("_", "").replace("-", "") in SECRET_WORDS:
        return True
    return any(word.lower() in SECRET_WORDS for word in _WORD.findall(name))


def _redact(name: str, value: Any, redacted: frozenset[str], depth: int) -> Any:
    if is_secret(name, redacted) or not depth:
        return HIDDEN
    if isinstance(value, dict):
        return {key: _redact(key, inner, redacted, depth - 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_redact("", inner, redacted, depth - 1) for inner in value]
    return value
