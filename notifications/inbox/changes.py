"""What a form of the inbox has changed: the parameter that says it, and the message, which offers to undo it."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core import signing
from django.utils.translation import gettext, gettext_lazy, ngettext

from notifications import times
from notifications.db.transactions import database
from notifications.extension import PageButton
from notifications.inbox.query import PAGE_SIZE
from notifications.inbox.saved_views import MAX_VIEWS
from notifications.models import Notification
from notifications.streams.marking import VERBS

#: The parameter.
CHANGED = "changed"
#: Notifications and groups that one form can name: those of a page.
MAX_IDS = MAX_GROUPS = PAGE_SIZE
#: The parameter after a form that named no notification, or groups with a verb that they do not have.
NOTHING_SELECTED, GROUPS_SELECTED = "none", "groups"
#: The parameter after a form that named a wrong time, or saved one view too many; and after an undo.
WRONG_TIME, TOO_MANY_VIEWS, UNDONE = "time", "views", "undone"
#: What the message of an extension begins with.
SAID = "said."
#: What can be done with named notifications: the verbs of marks, and to snooze them.
SNOOZE = "snooze"
#: Until when a notification is snoozed, besides a time that is chosen.
SNOOZE_TIMES = {
    "hours": gettext_lazy("In 3 hours"),
    "tomorrow": gettext_lazy("Tomorrow, 08:00"),
    "monday": gettext_lazy("Monday, 08:00"),
}
_ROWS_CHANGED = re.compile(rf"({'|'.join(VERBS)}|{SNOOZE})((?:-[0-9a-f]{{32}}){{0,{MAX_IDS}}})")
_ALL = re.compile(r"(read|archive)-all-(\d{1,9})-(\d{1,17})-(\d{1,16})-(\d{1,16})-([01])")


@dataclass(frozen=True, kw_only=True, slots=True)
class RowsChanged:
    """Named notifications were changed by ``verb``: those of the ``ids``."""

    verb: str
    ids: tuple[UUID, ...]

    @property
    def count(self) -> int:
        return len(self.ids)

    @property
    def is_pending(self) -> bool:
        return False

    def encode(self) -> str:
        return "-".join([self.verb, *(id.hex for id in self.ids)])


@dataclass(frozen=True, kw_only=True, slots=True)
class AllChanged:
    """All notifications of a list were changed by ``verb``, those that were raised up to ``up_to``.

    ``count``
        How many the request has changed.
    ``moment``, ``after``
        Their time, and the position above which they are.
    ``is_pending``
        Whether the rest is changed in the background.
    """

    verb: str
    count: int
    moment: datetime
    after: int
    up_to: int
    is_pending: bool

    def encode(self) -> str:
        moment = times.to_microseconds(self.moment)
        return f"{self.verb}-all-{self.count}-{moment}-{self.after}-{self.up_to}-{int(self.is_pending)}"


Change = RowsChanged | AllChanged


def parse_change(text: str) -> Change | None:
    """Return the change that a parameter describes, None if it is not valid."""
    if match := _ROWS_CHANGED.fullmatch(text):
        ids = tuple(UUID(hex) for hex in match[2].split("-")[1:])
        return RowsChanged(verb=match[1], ids=ids)
    if not (match := _ALL.fullmatch(text)):
        return None
    count, microseconds, after, up_to, is_pending = map(int, match.groups()[1:])
    return AllChanged(
        verb=match[1],
        count=count,
        moment=times.from_microseconds(microseconds),
        after=after,
        up_to=up_to,
        is_pending=bool(is_pending),
    )


def said_salt(user: Any) -> str:
    """Return the salt that signs a message in an address for a user (key): the address says nothing to another one."""
    return f"{SAID}{user}"


def describe_wrong_time() -> str:
    return gettext("Choose a time in the future, at most a year ahead.")


def describe_change(change: Change, until: datetime | None = None) -> str:
    """Return the text about a change for its user. ``until``: what was snoozed is so until then."""
    count = change.count
    if change.is_pending:
        return gettext("%(count)d changed so far. The rest follows.") % {"count": count}
    if count == 0:
        return gettext("Nothing was left to change.")
    if change.verb == "read":
        text = ngettext("%(count)d marked as read.", "%(count)d marked as read.", count)
    elif change.verb == "unread":
        text = ngettext("%(count)d marked as unread.", "%(count)d marked as unread.", count)
    elif change.verb == SNOOZE and until:
        text = ngettext("%(count)d snoozed until %(time)s.", "%(count)d snoozed until %(time)s.", count)
        return text % {"count": count, "time": times.format_short(until)}
    elif change.verb == SNOOZE:
        text = ngettext("%(count)d snoozed.", "%(count)d snoozed.", count)
    elif change.verb == "archive":
        text = ngettext("%(count)d moved to Done.", "%(count)d moved to Done.", count)
    else:
        text = ngettext("%(count)d moved to the inbox.", "%(count)d moved to the inbox.", count)
    return text % {"count": count}


def describe_last_change(user: Any, text: str, view: str) -> dict[str, Any]:
    """Return the message for a user (key) about the change that a parameter describes, and what undoes it, if any.

    ``view``
        That of the page: what was changed in what is snoozed cannot be undone.
    """
    if text == NOTHING_SELECTED:
        return {"message": gettext("Select notifications first.")}
    if text == GROUPS_SELECTED:
        return {
            "message": gettext("Groups can only be marked as read or moved to Done. Open the group instead.")
        }
    if text == WRONG_TIME:
        return {"message": describe_wrong_time()}
    if text == TOO_MANY_VIEWS:
        return {"message": gettext("You have %(count)d views. Delete one first.") % {"count": MAX_VIEWS}}
    if text == UNDONE:
        return {"message": gettext("Undone.")}
    if text.startswith(SAID):
        with suppress(signing.BadSignature):
            message, *undo = signing.loads(text.removeprefix(SAID), salt=said_salt(user))
            return {"message": message, "undo": PageButton(*undo)}
    change = parse_change(text)
    if change is None:
        return {}
    # To archive again what was snoozed would not snooze it.
    can_undo = (change.count > 0 or change.is_pending) and view != "snoozed"
    until = None
    if change.verb == SNOOZE and isinstance(change, RowsChanged):
        rows = Notification.objects.using(database()).filter(pk__in=change.ids, user=user)
        until = rows.values_list("snoozed_until", flat=True).first()
    return {"message": describe_change(change, until), "undoable": text if can_undo else ""}
