"""System checks of schedules."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Warning, register

from notifications.contrib.schedules.declarations import wrong_declarations
from notifications.contrib.schedules.tasks import find_wrong_tasks


@register("notifications")
def check_schedules(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W020 to W025: wrong declarations of schedules, each of which disables itself only."""
    wrong = (*wrong_declarations(), *find_wrong_tasks())
    return [Warning(each.message, hint=each.hint, id=each.id) for each in wrong]
