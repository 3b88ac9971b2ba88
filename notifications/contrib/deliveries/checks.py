"""System checks of deliveries."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Warning, register

from notifications.contrib.deliveries.rules import find_wrong_rules
from notifications.contrib.deliveries.vapid import find_wrong_web_push


@register("notifications")
def check_deliveries(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W029: wrong steps, each of which disables itself only. W030: no address of the site. W032, W033: push."""
    wrong = (*find_wrong_rules(), *find_wrong_web_push())
    return [Warning(each.message, hint=each.hint, id=each.id) for each in wrong]
