"""Whether the member of staff for whom a job changes many rows still may do so."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.utils.translation import gettext as _

from notifications.exceptions import JobError


def require_permission(key: Any, permission: str) -> None:
    """Raise ``JobError`` unless the user with this key is active and staff, and has the permission.

    It is called before each chunk, outside of its transaction: backends are the project's code, and a job takes hours.
    """
    user = get_user_model()._base_manager.filter(pk=key).first()
    if user is None or not (user.is_active and user.is_staff and user.has_perm(permission)):
        raise JobError(_("The user who started this no longer has the permission."))
