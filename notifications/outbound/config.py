"""The settings of outbound calls, read at every call and made ready once."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from django.conf import settings as django_settings

from notifications.conf import settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """``allow`` are the entries of ``OUTBOUND_ALLOW``, as they are written."""

    allow: tuple[str, ...]
    ports: frozenset[int]
    per_host: int
    total: int


def limits() -> Limits:
    """Return what the settings say now."""
    global _ready
    told = getattr(django_settings, "NOTIFICATIONS", None)
    seen, ready = _ready
    if ready is None or told != seen:
        ready = Limits(
            allow=tuple(settings.OUTBOUND_ALLOW),
            ports=frozenset(settings.OUTBOUND_PORTS),
            per_host=settings.OUTBOUND_PER_HOST,
            total=settings.OUTBOUND_TOTAL,
        )
        _ready = deepcopy(told), ready
    return ready


_ready: tuple[Any, Limits | None] = (None, None)
