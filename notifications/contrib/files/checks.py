"""The system checks of files."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured

from notifications.contrib.files.declarations import EXAMPLE, check_sending, find_storage, is_public


@register("notifications")
def check_files(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E016: ``NOTIFICATIONS["FILES"]`` or its storage is wrong. W054: everybody can read the storage."""
    try:
        storage = find_storage()
        check_sending(storage)
    except ValueError as exc:
        hint = "See the options of FILES in the reference of settings."
        return [Error(f"NOTIFICATIONS['FILES']: {exc}", hint=hint, id="notifications.E016")]
    except ImproperlyConfigured as exc:
        return [Error(str(exc).partition(" Add to")[0], hint=EXAMPLE, id="notifications.E016")]
    if is_public(storage):
        message = "The files of jobs are stored below MEDIA_ROOT, where everybody can read them who knows an address."
        return [Warning(message, hint=EXAMPLE, id="notifications.W054")]
    return []
