"""The result of one check of ``manage.py notifications doctor``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """The result of a check: ``state`` is ok, warning or error; ``figures`` are for ``--json``."""

    check: str
    state: str
    message: str
    remedy: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


def ms(seconds: float) -> float:
    """Return milliseconds, rounded for output."""
    return round(seconds * 1000, 1)
