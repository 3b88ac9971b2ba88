"""What operators see of schedules: see ``notifications.contrib.operations.additions``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.http import HttpRequest


def metrics() -> Iterable[Any]:
    from notifications.contrib.schedules.metrics import collect

    return collect()


def overview_sections(model_admin: Any, request: HttpRequest) -> list[dict[str, Any]]:
    from notifications.contrib.schedules.admin import read_overview_sections

    return read_overview_sections(model_admin, request)
