"""The users of schedules: who owns the jobs, and who is notified of problems."""

from __future__ import annotations

import logging
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldError

from notifications.schedules.declarations import ScheduleDeclaration

logger = logging.getLogger("notifications.jobs")

#: Members of a group that are notified at most.
MAX_GROUP_MEMBERS = 1_000


def find_owner(declaration: ScheduleDeclaration) -> Any:
    """Return the user who owns the jobs of a schedule, None if none is declared or exists."""
    if not declaration.owner:
        return None
    model = get_user_model()
    user = model._default_manager.filter(**{model.USERNAME_FIELD: declaration.owner}).first()
    if user is None:
        logger.warning(
            "The owner of a schedule does not exist, so that its jobs have none: schedule %s, user %s",
            declaration.name,
            declaration.owner,
        )
    return user


def find_notified_users(declaration: ScheduleDeclaration) -> list[Any]:
    """Return the keys of the users who are notified of a schedule."""
    if owner := find_owner(declaration):
        return [owner.pk]
    if not declaration.group:
        return []
    users = get_user_model()._default_manager
    try:
        keys = list(
            users.filter(groups__name=declaration.group, is_active=True)
            .order_by("pk")
            .values_list("pk", flat=True)[:MAX_GROUP_MEMBERS]
        )
    except FieldError:
        keys = []
    if not keys:
        logger.warning(
            "The group of a schedule has no active members: schedule %s, group %s",
            declaration.name,
            declaration.group,
        )
    return keys
