"""What an examination finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """``what`` was looked at, how it is (``state``: ok, warning or error), in words, and what to do about it."""

    what: str
    state: str
    words: str
    remedy: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


def ms(seconds: float) -> float:
    """Return milliseconds, as they are shown."""
    return round(seconds * 1000, 1)
