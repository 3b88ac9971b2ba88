"""The users who receive alerts."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_backends

#: The permission, and the users who are notified at most.
PERMISSION = "notifications.receive_alerts"
MAX_RECIPIENTS = 1_000


def read_recipients() -> list[Any]:
    """Return the keys of the active users with the permission, superusers included, at most ``MAX_RECIPIENTS``.

    A backend of ``AUTHENTICATION_BACKENDS`` without Django's method ``with_perm`` knows none.
    """
    keys: dict[Any, None] = {}
    for backend in get_backends():
        with_permission = getattr(backend, "with_perm", None)
        if with_permission is not None and _has_permissions(backend):
            rows = with_permission(PERMISSION, is_active=True, include_superusers=True)
            keys.update(dict.fromkeys(rows.order_by("pk").values_list("pk", flat=True)[:MAX_RECIPIENTS]))
    return list(keys)[:MAX_RECIPIENTS]


def _has_permissions(backend: Any) -> bool:
    """Return whether the user model has the fields that Django's ``ModelBackend.with_perm`` filters by."""
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import PermissionsMixin

    return issubclass(get_user_model(), PermissionsMixin)
