"""System checks of deliveries."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Info, register
from django.core.exceptions import ImproperlyConfigured

from notifications.conf import settings


@register("notifications")
def check_steps(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W029 to W033, W036, W037, W052: wrong steps and categories, no address of the site, what channels find wrong."""
    from notifications.contrib.deliveries.rules import find_wrong_declarations

    return [each.as_check_message() for each in find_wrong_declarations()]


@register("notifications")
def check_delivery(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """I006: no rule says what is delivered."""
    try:
        if settings.DELIVERY:
            return []
    except ImproperlyConfigured:  # which another check reports
        return []
    problem = (
        "notifications.contrib.deliveries is installed, and NOTIFICATIONS['DELIVERY'] is empty: notifications go by "
        "no other channel, but for those of notify(deliver=...)."
    )
    hint = 'Write "DELIVERY": {"*": [{"email": 600}]}, or silence this check.'
    return [Info(problem, hint=hint, id="notifications.I006")]
