"""System checks of broadcasts."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Warning, register

from notifications.broadcasts.languages import find_wrong_field


@register("notifications")
def check_language(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W035: the setting of the language of users names none of their fields."""
    return [Warning(wrong.message, hint=wrong.hint, id=wrong.id) for wrong in find_wrong_field()]
