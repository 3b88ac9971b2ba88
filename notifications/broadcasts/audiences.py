"""Audiences: which active users a broadcast is sent to. The users may be in another database than the app's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_backends, get_user_model
from django.contrib.auth.models import PermissionsMixin
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext as _

from notifications.models import Broadcast

Kind = Broadcast.AudienceKind

#: Recipients are counted up to this number.
MAX_USERS_COUNTED = 1_000_000
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
            users = _holders(self.values[0])
        if has_user_field("is_active"):
            users = users.filter(is_active=True)
        if self.kind == Kind.USERS:
            return users.filter(pk__in=[_to_key(value) for value in self.values])
        if self.kind == Kind.GROUPS:
            return users.filter(_is_member(self.values))
        return users.filter(is_staff=True) if self.kind == Kind.STAFF else users

    def count(self) -> int:
        """Return how many users there are, ``MAX_USERS_COUNTED`` at most."""
        found: int = self.users().order_by().values("pk")[:MAX_USERS_COUNTED].count()
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
    has_permissions = issubclass(get_user_model(), PermissionsMixin)
    needs = {
        Kind.GROUPS: has_user_field("groups"),
        Kind.PERMISSION: has_permissions and any(map(_finds_holders, get_backends())),
        Kind.STAFF: has_user_field("is_staff"),
    }
    return [kind for kind in Kind.values if needs.get(Kind(kind), True)]


def has_user_field(name: str) -> bool:
    """Return whether the user model has a field of this name in the database."""
    try:
        get_user_model()._meta.get_field(name)
    except FieldDoesNotExist:
        return False
    return True


def group_model() -> Any:
    """Return the model of the groups of users."""
    return get_user_model()._meta.get_field("groups").related_model


def _is_member(groups: Sequence[str]) -> Any:
    # A join would find a user once for each group, and DISTINCT would sort all members for each chunk.
    field: Any = get_user_model()._meta.get_field("groups")
    memberships = field.remote_field.through._default_manager.filter(
        **{
            f"{field.m2m_reverse_field_name()}__in": list(groups),
            field.m2m_field_name(): OuterRef("pk"),
        }
    )
    return Exists(memberships)


def _holders(permission: str) -> Any:
    """Return the users with a permission, superusers included, active or not."""
    # Backends that inherit the method of ModelBackend find the same users.
    methods = {type(backend).with_perm: backend for backend in get_backends() if _finds_holders(backend)}
    found = [
        backend.with_perm(permission, is_active=None, include_superusers=True) for backend in methods.values()
    ]
    if len(found) == 1:
        return found[0]
    condition = Q(pk__in=[])
    for holders in found:
        condition |= Q(pk__in=holders.order_by().values("pk"))
    return get_user_model()._default_manager.filter(condition)


def _finds_holders(backend: Any) -> bool:
    return callable(getattr(backend, "with_perm", None))


def _read_first(model: Any, keys: Sequence[str]) -> list[Any]:
    return list(model._default_manager.filter(pk__in=keys[:MAX_NAMES_SHOWN]))


def _to_key(text: str) -> Any:
    return get_user_model()._meta.pk.to_python(text)
