"""Check the names that adapters use of an installed server, and log when its own code runs instead of an adapter."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any

logger = logging.getLogger(__name__)


@functools.cache
def log_fallback(message: str, reason: str) -> None:
    """Log once what the server does without an adapter. ``message`` has a ``%s`` for the reason."""
    logger.warning(message, reason)


def has_methods(adapted: Any, names: Sequence[str], message: str) -> bool:
    """Return whether a class has these methods. If not, call ``log_fallback()``."""
    missing = [name for name in names if not callable(getattr(adapted, name, None))]
    if missing:
        log_fallback(message, f"{adapted.__name__} has no {', '.join(missing)}.")
    return not missing
