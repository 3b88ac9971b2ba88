"""System checks of deliveries."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Warning, register

from notifications.contrib.deliveries.rules import find_wrong_rules, read_rules
from notifications.extension import find_channel, hooks


@register("notifications")
def check_deliveries(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W029: wrong steps, each of which disables itself only. W030: no address of the site. Others: of channels."""
    used = read_rules().channels
    of_channels = (find_channel(name).find_wrong(is_used=name in used) for name in hooks.channels)
    wrong = (*find_wrong_rules(), *(each for found in of_channels for each in found))
    return [Warning(each.message, hint=each.hint, id=each.id) for each in wrong]
