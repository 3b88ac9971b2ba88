"""The system check of schedules."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, register


@register("notifications")
def check_schedules(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W020 to W025: what is wrong with declarations of schedules. Imports their tasks."""
    from notifications.contrib.schedules.tasks import find_wrong_schedules

    return [each.as_check_message() for each in find_wrong_schedules()]
