"""System checks of handlers."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Warning, register

from notifications.contrib.webhooks.handlers import read_handlers


@register("notifications")
def check_handlers(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W026 to W028: wrong handlers, each of which disables itself only."""
    return [Warning(wrong.message, hint=wrong.hint, id=wrong.id) for wrong in read_handlers().wrong]
