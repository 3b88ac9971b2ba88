"""The users whom ``manage.py notify`` notifies: by name, of groups, and staff."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist, FieldError
from django.core.management.base import CommandError
from django.db.models import Q

#: Unknown names that a message has at most.
MAX_NAMES_SHOWN = 10


def find_named_users(usernames: Sequence[str]) -> list[Any]:
    """Return the keys of users, in the order of their names, each once. Raises CommandError for unknown names."""
    users = get_user_model()
    keys, unknown = [], []
    for name in dict.fromkeys(usernames):
        try:
            keys.append(users._default_manager.get_by_natural_key(name).pk)
        except users.DoesNotExist:
            unknown.append(repr(name))
    if unknown:
        named = ", ".join(unknown[:MAX_NAMES_SHOWN]) + (
            " and others" if len(unknown) > MAX_NAMES_SHOWN else ""
        )
        raise CommandError(
            f"There is no user {named}. Check the spelling, or create the user first. Nothing was sent."
        )
    return keys


def find_members(groups: Sequence[str], *, staff: bool) -> list[Any]:
    """Return the keys of the active users in any of these groups, and of active staff if ``staff``.

    Raises CommandError for an unknown group, and for a user model without groups or staff.
    """
    users = get_user_model()
    try:
        if groups:
            model = users._meta.get_field("groups").related_model
            known = set(model._default_manager.filter(name__in=groups).values_list("name", flat=True))
            if unknown := [repr(name) for name in dict.fromkeys(groups) if name not in known]:
                raise CommandError(
                    f"There is no group {', '.join(unknown)}. Check the spelling. Nothing was sent."
                )
        condition = Q(groups__name__in=groups) if groups else Q()
        if staff:
            condition |= Q(is_staff=True)
        rows = users._default_manager.filter(condition, is_active=True)
        return list(rows.order_by("pk").values_list("pk", flat=True).distinct())
    except (FieldDoesNotExist, FieldError) as exc:
        raise CommandError(f"The user model has no such users: {exc}. Nothing was sent.") from exc
