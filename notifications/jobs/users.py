"""Who users are: active ones, members of groups, and holders of permissions.

Users may be in another database than the app's rows.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth import get_backends, get_user_model
from django.contrib.auth.models import PermissionsMixin
from django.core.exceptions import FieldDoesNotExist
from django.db import router
from django.db.models import Exists, Manager, Model, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _

from notifications.db.adapters import user_keys_of
from notifications.exceptions import JobError

logger = logging.getLogger("notifications")

#: Keys of a call that are looked up in development.
MAX_LOOKED_UP = 500


def filter_active(users: Any) -> Any:
    """Return those of a queryset of users who are active."""
    return users.filter(is_active=True) if user_field("is_active") else users


def active_users(
    *, keys: Sequence[Any] | None = None, groups: Sequence[Any] | None = None, permission: str = ""
) -> Any:
    """Return a queryset of the active users, each once.

    ``keys``, ``groups``, ``permission``
        One of them at most: those with these keys, the members of one of these groups (keys), or those with a
        permission, superusers included. Nobody, where users of the project have no groups or permissions.
    """
    users = get_user_model()._default_manager.all()
    if permission:
        users = holders(permission) if has_holders() else users.none()
    elif groups is not None:
        users = users.filter(is_member(groups)) if user_field("groups") else users.none()
    elif keys is not None:
        users = users.filter(pk__in=list(keys))
    return filter_active(users)


def user_field(name: str) -> Any:
    """Return the field of the user model with this name, None if it has none. No query.

    The ``related_model`` of the field ``groups`` is the class of groups.
    """
    try:
        return get_user_model()._meta.get_field(name)
    except FieldDoesNotExist:
        return None


def has_holders() -> bool:
    """Return whether users of the project have permissions by which they are found."""
    return issubclass(get_user_model(), PermissionsMixin) and any(map(finds_holders, get_backends()))


def recipient_keys(users: Any) -> list[Any]:
    """Return the keys of those whom ``notify()`` is given: of a group its active users. Raises TypeError or ValueError.

    Without instances of users for a group, which may be large.
    """
    if (groups := user_field("groups")) and isinstance(users, groups.related_model):
        return list(active_users(groups=[users.pk]).order_by("pk").values_list("pk", flat=True))
    # A request of Django can be iterated: it yields the lines of its body.
    if isinstance(users, HttpRequest | Manager | type):
        raise TypeError(
            f"users is {users!r}. Pass a user, a primary key, an iterable of these, or a group, such as request.user."
        )
    keys = user_keys_of(users)
    log_unknown(users, keys)
    return keys


def log_unknown(users: Any, keys: Sequence[Any]) -> None:
    """Log in development which of the keys that were passed as ``users`` are those of no user.

    Elsewhere they are not looked up: rows of theirs are stored, and nobody sees them.
    """
    if not settings.DEBUG or isinstance(users, Model):
        return
    model: Any = get_user_model()
    known = QuerySet(model, using=router.db_for_write(model)).filter(pk__in=keys[:MAX_LOOKED_UP])
    for key in set(keys[:MAX_LOOKED_UP]).difference(known.values_list("pk", flat=True)):
        logger.warning(
            "No user has this primary key, so nobody is notified: %s. Pass a saved user or its key.", key
        )


def is_member(groups: Sequence[Any]) -> Any:
    """Return the condition of users who are members of one of these groups (keys)."""
    # A join would find a user once for each group, and DISTINCT would sort all members for each chunk.
    field: Any = get_user_model()._meta.get_field("groups")
    memberships = field.remote_field.through._default_manager.filter(
        **{
            f"{field.m2m_reverse_field_name()}__in": list(groups),
            field.m2m_field_name(): OuterRef("pk"),
        }
    )
    return Exists(memberships)


def holders(permission: str) -> Any:
    """Return the users with a permission, superusers included, active or not."""
    # Backends that inherit the method of ModelBackend find the same users.
    methods = {type(backend).with_perm: backend for backend in get_backends() if finds_holders(backend)}
    found = [
        backend.with_perm(permission, is_active=None, include_superusers=True) for backend in methods.values()
    ]
    if len(found) == 1:
        return found[0]
    condition = Q(pk__in=[])
    for users in found:
        condition |= Q(pk__in=users.order_by().values("pk"))
    return get_user_model()._default_manager.filter(condition)


def finds_holders(backend: Any) -> bool:
    """Return whether an authentication backend finds the users with a permission."""
    return callable(getattr(backend, "with_perm", None))


def require_permission(key: Any, permission: str) -> None:
    """Raise ``JobError`` unless the user with this key is active and staff, and has the permission.

    It is called before each chunk, outside of its transaction: backends are the project's code, and a job takes hours.
    """
    user = get_user_model()._base_manager.filter(pk=key).first()
    if user is None or not (user.is_active and user.is_staff and user.has_perm(permission)):
        raise JobError(_("The user who started this no longer has the permission."))


class Recipient(NamedTuple):
    """A user, and whether they are active: others are sent nothing."""

    user: Any
    is_active: bool


def read_recipient(user: Any) -> Recipient | None:
    """Return the recipient for the key of a user, None if it does not exist.

    Outside of a transaction: the model is the project's, and may be in another database.
    """
    model: Any = get_user_model()
    # Not by a manager of the project, which may hide users, and not from a replica, which may not have a new one.
    found = QuerySet(model, using=router.db_for_write(model)).filter(pk=user).first()
    return None if found is None else Recipient(found, bool(getattr(found, "is_active", True)))
