"""The users of schedules: who owns the jobs, and who is notified of problems."""

from __future__ import annotations

import logging
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldError
from django.utils.translation import gettext

from notifications.contrib.schedules.declarations import ScheduleDeclaration

logger = logging.getLogger("notifications.jobs")

#: Members of a group that are notified at most.
MAX_GROUP_MEMBERS = 1_000


def find_owner(declaration: ScheduleDeclaration) -> Any:
    """Return the user who owns the jobs of a schedule, None if none is declared or exists."""
    user = _read_owner(declaration)
    if user is None and declaration.owner:
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
    keys = _read_members(declaration, MAX_GROUP_MEMBERS)
    if declaration.group and not keys:
        logger.warning(
            "The group of a schedule has no active members: schedule %s, group %s",
            declaration.name,
            declaration.group,
        )
    return keys


def find_problem(declaration: ScheduleDeclaration) -> tuple[str, str] | None:
    """Return what is wrong with the owner or group of a schedule, and the remedy; None if nothing is."""
    setting = "NOTIFICATIONS['SCHEDULES']"
    if declaration.owner and _read_owner(declaration) is None:
        return (
            gettext("The user %(name)s does not exist. The jobs have no owner, and no notification is sent.")
            % {"name": declaration.owner},
            gettext("Create the user, or correct the owner in %(setting)s.") % {"setting": setting},
        )
    if declaration.group and not _read_members(declaration, 1):
        return (
            gettext("No active user is in the group %(name)s. No notification is sent.")
            % {"name": declaration.group},
            gettext("Add a user to the group, or correct it in %(setting)s.") % {"setting": setting},
        )
    return None


def _read_owner(declaration: ScheduleDeclaration) -> Any:
    if not declaration.owner:
        return declaration.user
    model = get_user_model()
    return model._default_manager.filter(**{model.USERNAME_FIELD: declaration.owner}).first()


def _read_members(declaration: ScheduleDeclaration, limit: int) -> list[Any]:
    """Return the keys of active members of the group of a schedule, at most ``limit``."""
    if not declaration.group:
        return []
    users = get_user_model()._default_manager
    try:
        members = users.filter(groups__name=declaration.group, is_active=True)
        return list(members.order_by("pk").values_list("pk", flat=True)[:limit])
    except FieldError:
        return []
