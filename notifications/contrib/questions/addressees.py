"""Whom the questions of jobs ask, and who may answer them.

Users may be in another database than the app's rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth import get_backends, get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Permission

from notifications.db import user_keys_of
from notifications.inbox import active_users, has_holders, user_field

#: Users who are asked one question at most.
MAX_ADDRESSEES = 100
#: Who has it may answer all questions, and is asked those whose addressees are gone.
ANSWER_PERMISSION = "notifications_questions.answer_question"
#: Characters of the name of who has answered.
MAX_NAME_LENGTH = 60


class NoAddressee(RuntimeError):
    """No active user could answer a question."""


def name_of(user: Any) -> str:
    """Return the full name of a user, or else the username; "" without a user."""
    if user is None:
        return ""
    full_name = user.get_full_name() if hasattr(user, "get_full_name") else ""
    name: str = full_name.strip() or user.get_username()
    return name.replace("\0", "")[:MAX_NAME_LENGTH]


def describe_asked(to: Any, owner: Any) -> dict[str, Any]:
    """Return whom a question asks: ``{"users": […]}``, ``{"group": key}`` or ``{"permission": name}``, to be stored.

    ``to``
        A user or key, an iterable of these, a group, or a permission such as ``"shop.ship_order"``. None: the owner.
    ``owner``
        The key of the owner of the job, None without one.

    Raises TypeError, and ValueError for no user, more than ``MAX_ADDRESSEES``, and a permission that does not exist.
    """
    if to is None:
        return {"users": [] if owner is None else [str(owner)]}
    if isinstance(to, str):
        if not all(to.partition(".")):
            raise ValueError(f"to is {to!r}, which is no permission such as 'shop.ship_order'.")
        if has_holders() and not _is_permission(to):
            raise ValueError(
                f"to is {to!r}, a permission that does not exist. Correct its name, or run migrate."
            )
        return {"permission": to}
    if (groups := user_field("groups")) and isinstance(to, groups.related_model):
        return {"group": str(to.pk)}
    if not (keys := user_keys_of(to)):
        raise ValueError(
            "to is empty. Pass users, a group or a permission, or None for the owner of the job."
        )
    if len(keys) > MAX_ADDRESSEES:
        raise ValueError(f"to has {len(keys)} users. At most {MAX_ADDRESSEES} are asked one question.")
    return {"users": [str(key) for key in keys]}


def find_addressees(asked: Mapping[str, Any]) -> list[Any]:
    """Return the keys of the active users who are asked a question, at most one more than ``MAX_ADDRESSEES``.

    ``asked``
        As ``describe_asked()`` returns it.

    If none of them is active, those with ``ANSWER_PERMISSION`` are asked, superusers too. Raises ``NoAddressee``.
    """
    keys = _find_active(asked) or _find_active({"permission": ANSWER_PERMISSION})[:MAX_ADDRESSEES]
    if not keys:
        raise NoAddressee(
            "There is no active user who could answer. Pass others as to, or give staff the permission "
            f"{ANSWER_PERMISSION}."
        )
    return keys


def may_answer(asked: Mapping[str, Any], user: Any) -> bool:
    """Return whether a user may answer a question now: one who is asked, or has ``ANSWER_PERMISSION``.

    Calls code of the project, as ``has_perm()``: not inside of a transaction. A user object remembers its permissions:
    pass one that was read just before.
    """
    return is_asked(asked, user) or is_asked({"permission": ANSWER_PERMISSION}, user)


def is_asked(asked: Mapping[str, Any], user: Any) -> bool:
    """Return whether a user is active and one of those whom a question asks. See ``may_answer()``."""
    if "permission" in asked:
        return read_user(user.pk) is not None and user.has_perm(asked["permission"])
    return bool(_select(asked).filter(pk=user.pk).exists())


def _is_permission(name: str) -> bool:
    """Return whether there is a permission of this name, or a backend with permissions of its own may have one."""
    app, _, codename = name.partition(".")
    if Permission.objects.filter(content_type__app_label=app, codename=codename).exists():
        return True
    own = ModelBackend.with_perm
    return any(
        type(backend).with_perm is not own for backend in get_backends() if hasattr(backend, "with_perm")
    )


def read_user(key: Any) -> Any:
    """Return the active user with this key, None if there is none."""
    user = get_user_model()._base_manager.filter(pk=key).first()
    return user if getattr(user, "is_active", True) else None


def _select(asked: Mapping[str, Any]) -> Any:
    if "permission" in asked:
        return active_users(permission=asked["permission"])
    return active_users(groups=[asked["group"]]) if "group" in asked else active_users(keys=asked["users"])


def _find_active(asked: Mapping[str, Any]) -> list[Any]:
    users = _select(asked).order_by("pk")
    if "permission" not in asked:
        return list(users.values_list("pk", flat=True)[: MAX_ADDRESSEES + 1])
    # A backend that refuses a permission to users overrules those that find them.
    return [user.pk for user in users[: MAX_ADDRESSEES + 1] if user.has_perm(asked["permission"])]
