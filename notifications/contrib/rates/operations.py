"""What operators see of rates: see ``notifications.contrib.operations.additions``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def metrics() -> Iterable[Any]:
    from notifications.contrib.rates.metrics import collect

    return collect()
