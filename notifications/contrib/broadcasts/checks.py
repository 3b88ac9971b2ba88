"""The system check of broadcasts."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Warning, register
from django.core.exceptions import FieldError, ImproperlyConfigured

from notifications.conf import settings


@register("notifications")
def check_user_language(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W035: ``USER_LANGUAGE`` names no field of users. It makes no query."""
    try:
        if not (name := settings.USER_LANGUAGE):
            return []
        get_user_model()._base_manager.values_list(name)
    except ImproperlyConfigured:  # which another check reports
        return []
    except FieldError as exc:
        message = f"NOTIFICATIONS['USER_LANGUAGE'] is {name!r}, which is no field of users: no broadcast can be sent."
        hint = f'Name it as in User.objects.values_list("profile__language"). {exc}'
        return [Warning(message, hint=hint, id="notifications.W035")]
    return []
