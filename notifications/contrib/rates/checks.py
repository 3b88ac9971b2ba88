"""The system check of rates."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, register

from notifications.contrib.rates.declarations import find_wrong


@register("notifications")
def check_rates(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W046 to W048: what is wrong with declared rates, and tasks with a rate that is not declared."""
    return [each.warning() for each in find_wrong()]
