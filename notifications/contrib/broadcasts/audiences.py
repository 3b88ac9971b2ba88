"""Audiences: which active users a broadcast is sent to. The users may be in another database than the app's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.utils.translation import gettext as _

from notifications.contrib.broadcasts.models import Broadcast
from notifications.jobs.users import (
    filter_active,
    group_model,
    has_holders,
    has_user_field,
    holders,
    is_member,
)

Kind = Broadcast.AudienceKind

#: Recipients are counted up to this number before a broadcast is sent, and while it is written.
MAX_USERS_COUNTED, MAX_USERS_COUNTED_LIVE = 1_000_000, 10_000
#: Names that the description of an audience has at most.
MAX_NAMES_SHOWN = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Audience:
    """The active users that a broadcast is sent to.

    ``kind``
        A value of ``Broadcast.AudienceKind``.
    ``values``
        Keys of users or of groups as strings, or the name of a permission such as ``"shop.change_order"``; else empty.
    """

    kind: str
    values: tuple[str, ...] = ()

    def users(self) -> Any:
        """Return the users as a queryset, each once."""
        users = get_user_model()._default_manager.all()
        if self.kind == Kind.PERMISSION:
            users = holders(self.values[0])
        users = filter_active(users)
        if self.kind == Kind.USERS:
            return users.filter(pk__in=[_to_key(value) for value in self.values])
        if self.kind == Kind.GROUPS:
            return users.filter(is_member(self.values))
        return users.filter(is_staff=True) if self.kind == Kind.STAFF else users

    def count(self, limit: int) -> int:
        """Return how many users there are, ``limit`` at most."""
        found: int = self.users().order_by().values("pk")[:limit].count()
        return found

    def read_keys(self, after: str, limit: int) -> list[Any]:
        """Return the first ``limit`` keys of users that follow a key, given as text, "" for the first ones."""
        users = self.users().order_by("pk")
        if after:
            users = users.filter(pk__gt=_to_key(after))
        return list(users.values_list("pk", flat=True)[:limit])

    def describe(self) -> str:
        """Return a description for staff, such as "Members of groups: editors, authors"."""
        label = str(Kind(self.kind).label)
        if not self.values:
            return label
        if self.kind == Kind.PERMISSION:
            names = [self.values[0]]
        elif self.kind == Kind.USERS:
            names = sorted(user.get_username() for user in _read_first(get_user_model(), self.values))
        else:
            names = sorted(group.name for group in _read_first(group_model(), self.values))
        if (more := len(self.values) - MAX_NAMES_SHOWN) > 0:
            names.append(_("%(count)d more") % {"count": more})
        return f"{label}: {', '.join(names)}"


def available_kinds() -> list[str]:
    """Return the kinds of audiences that the user model of the project has."""
    needs = {
        Kind.GROUPS: has_user_field("groups"),
        Kind.PERMISSION: has_holders(),
        Kind.STAFF: has_user_field("is_staff"),
    }
    return [kind for kind in Kind.values if needs.get(Kind(kind), True)]


def _read_first(model: Any, keys: Sequence[str]) -> list[Any]:
    return list(model._default_manager.filter(pk__in=keys[:MAX_NAMES_SHOWN]))


def _to_key(text: str) -> Any:
    return get_user_model()._meta.pk.to_python(text)
