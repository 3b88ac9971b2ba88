"""The system check of handlers."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, register


@register("notifications")
def check_handlers(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W026 to W028: what is wrong with handlers. Imports their tasks."""
    from notifications.contrib.webhooks.handlers import find_wrong_handlers

    return [each.as_check_message() for each in find_wrong_handlers()]
