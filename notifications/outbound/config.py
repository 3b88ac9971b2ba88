"""The settings of outbound calls, read at each call and converted once."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from django.conf import settings as django_settings

from notifications.conf import settings


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboundConfig:
    """``allow`` holds the entries of ``OUTBOUND_ALLOW`` as written, ``per_host`` the maximum calls."""

    allow: tuple[str, ...]
    ports: frozenset[int]
    per_host: int


def get_config() -> OutboundConfig:
    """Return the current settings. They are converted again only when NOTIFICATIONS has changed, as in tests."""
    global _cached
    current = getattr(django_settings, "NOTIFICATIONS", None)
    cached_for, config = _cached
    if config is None or current != cached_for:
        config = OutboundConfig(
            allow=tuple(settings.OUTBOUND_ALLOW),
            ports=frozenset(settings.OUTBOUND_PORTS),
            per_host=settings.OUTBOUND_PER_HOST,
        )
        _cached = deepcopy(current), config
    return config


_cached: tuple[Any, OutboundConfig | None] = (None, None)
