"""Which active users a broadcast is sent to, and which language each of them reads.

The users may be in another database than the app's rows.

Another app may name users by its module ``broadcasts``, whatever their number:

``find_audience(value)``
    Returns the audience that a text names, None for none: with ``describe()``, ``write_message()`` (title, body and
    level, in the active language) and ``read_keys(after, limit)``, the keys of users in their order.
``record_broadcast(value, broadcast, by)``
    Called with the id of a broadcast to such users, and the name of its sender, in the transaction that stores it.
    Returns whether it may be sent: not if they are being notified already.
``record_withdrawal(value, broadcast)``
    Called with the same in the transaction that begins to withdraw it.
``release_recipients(value)``
    Called when it is withdrawn, until it returns False: it has some of its users count as not notified.
``read_signed_audience(text, user)``
    Returns what ``find_audience`` takes of a text in the address of the composer, "" if it is not for this user.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.utils import translation
from django.utils.translation import gettext as _

from notifications.conf import settings
from notifications.contrib.broadcasts.models import Broadcast
from notifications.extension import hooks
from notifications.inbox import active_users, has_holders, user_field

Kind = Broadcast.AudienceKind

#: Recipients are counted up to this number before a broadcast is sent, and while it is written.
MAX_USERS_COUNTED, MAX_USERS_COUNTED_LIVE = 1_000_000, 10_000
#: Keys of users of an app that are read at once.
MAX_KEYS_READ = 1_000
#: Names that the description of an audience has at most.
MAX_NAMES_SHOWN = 10
#: Languages in which a message can be written besides that of the site.
MAX_LANGUAGES = 20


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
        """Return the users as a queryset, each once. Those of an app are none: they may be many."""
        if self.kind == Kind.PERMISSION:
            return active_users(permission=self.values[0])
        if self.kind == Kind.USERS:
            return active_users(keys=[_to_key(value) for value in self.values])
        if self.kind == Kind.GROUPS:
            return active_users(groups=self.values)
        if self.kind == Kind.AFFECTED:
            return active_users(keys=())
        return active_users().filter(is_staff=True) if self.kind == Kind.STAFF else active_users()

    def count(self, limit: int) -> int:
        """Return how many users there are, ``limit`` at most."""
        if self.kind == Kind.AFFECTED:
            return sum(len(keys) for keys in self._read_affected(None, limit))
        found: int = self.users().order_by().values("pk")[:limit].count()
        return found

    def read_keys(self, after: str, limit: int) -> list[Any]:
        """Return the first ``limit`` keys of users that follow a key, given as text, "" for the first ones."""
        if self.kind == Kind.AFFECTED:
            return next(self._read_affected(_to_key(after) if after else None, limit), [])
        users = self.users().order_by("pk")
        if after:
            users = users.filter(pk__gt=_to_key(after))
        return list(users.values_list("pk", flat=True)[:limit])

    def _read_affected(self, after: Any, limit: int) -> Iterator[list[Any]]:
        """Yield the keys of the active users of an app in their order, up to ``limit`` at once and in all."""
        audience, left = find_audience(self.values[0]), limit
        while audience and left > 0:
            keys = audience.read_keys(after, min(left, MAX_KEYS_READ))
            if not keys:
                return
            after = keys[-1]
            if active := list(active_users(keys=keys).order_by("pk").values_list("pk", flat=True)):
                yield active
            left -= len(active)

    def describe(self) -> str:
        """Return a description for staff, such as "Members of groups: editors, authors"."""
        label = str(Kind(self.kind).label)
        if not self.values:
            return label
        if self.kind == Kind.AFFECTED:
            names = [audience.describe()] if (audience := find_audience(self.values[0])) else []
        elif self.kind == Kind.PERMISSION:
            names = [self.values[0]]
        elif self.kind == Kind.USERS:
            names = sorted(user.get_username() for user in _read_first(get_user_model(), self.values))
        else:
            names = sorted(group.name for group in _read_first(group_model(), self.values))
        if (more := len(self.values) - MAX_NAMES_SHOWN) > 0:
            names.append(_("%(count)d more") % {"count": more})
        return f"{label}: {', '.join(names)}"


def find_audience(value: str) -> Any:
    """Return the audience of an app that a text names, None for none."""
    found = (find(value) for find in hooks.functions_of("broadcasts", "find_audience"))
    return next(filter(None, found), None)


def read_signed_audience(text: str, user: Any) -> str:
    """Return the name of the audience of an app that a text in an address has for a user, "" for none."""
    found = (read(text, user) for read in hooks.functions_of("broadcasts", "read_signed_audience"))
    return next(filter(None, found), "")


def available_kinds() -> list[str]:
    """Return the kinds of audiences that the user model of the project has, and that staff can choose."""
    needs = {
        Kind.AFFECTED: False,
        Kind.GROUPS: user_field("groups"),
        Kind.PERMISSION: has_holders(),
        Kind.STAFF: user_field("is_staff"),
    }
    return [kind for kind in Kind.values if needs.get(Kind(kind), True)]


def _read_first(model: Any, keys: Sequence[str]) -> list[Any]:
    return list(model._default_manager.filter(pk__in=keys[:MAX_NAMES_SHOWN]))


def _to_key(text: str) -> Any:
    return get_user_model()._meta.pk.to_python(text)


def offered_languages() -> list[tuple[str, str]]:
    """Return code and name of each of ``LANGUAGES`` but ``LANGUAGE_CODE``, none without ``USER_LANGUAGE``."""
    if not settings.USER_LANGUAGE:
        return []
    others = [code for code, _name in django_settings.LANGUAGES if code != django_settings.LANGUAGE_CODE]
    return [(code, _name_of(code)) for code in others[:MAX_LANGUAGES]]


class Texts:
    """Title and body of a broadcast in each language."""

    def __init__(self, row: Broadcast) -> None:
        self.own = (row.title, row.body)
        self.others = {
            code: (text["title"], text["body"]) for code, text in json.loads(row.translations).items()
        }

    def choose(self, language: str) -> tuple[str, str]:
        """Return title and body for a reader: in this language, else in the one without its region, else the site's."""
        return self.others.get(language) or self.others.get(language.partition("-")[0]) or self.own


def _name_of(code: str) -> str:
    try:
        return str(translation.get_language_info(code)["name_translated"]).capitalize()
    except KeyError:
        return code


def group_model() -> Any:
    """Return the model of the groups of users."""
    return get_user_model()._meta.get_field("groups").related_model
