"""Whether the user of a job still has the permission that the job needs."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.utils.translation import gettext as _

from notifications.exceptions import JobError


def require_permission(key: Any, permission: str) -> None:
    """Raise ``JobError`` unless the user with this key is active and has the permission."""
    user = get_user_model()._base_manager.filter(pk=key).first()
    if user is None or not user.is_active or not user.has_perm(permission):
        raise JobError(_("The user who started this no longer has the permission."))
