"""What a form of the inbox page has changed, as one parameter of its URL: the page says so, and offers to undo it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.utils.translation import gettext, gettext_lazy, ngettext

from notifications.streams.marking import VERBS
from notifications.streams.pages import PAGE_SIZE

#: Notifications that one form can name: those of a page.
MAX_IDS = PAGE_SIZE
#: The parameter after a form that named no notification or a wrong time, and after an undo.
NOTHING_SELECTED, WRONG_TIME, UNDONE = "none", "time", "undone"
#: What can be done with named notifications: the verbs of marks, and to snooze them.
SNOOZE = "snooze"
#: Until when, besides a time that is chosen.
SNOOZE_TIMES = {
    "hours": gettext_lazy("In 3 hours"),
    "tomorrow": gettext_lazy("Tomorrow, 8:00"),
    "monday": gettext_lazy("Monday, 8:00"),
}

_ROWS_CHANGED = re.compile(rf"({'|'.join(VERBS)}|{SNOOZE})((?:-[0-9a-f]{{32}}){{0,{MAX_IDS}}})")
_ALL = re.compile(r"(read|archive)-all-(\d{1,9})-(\d{1,17})-(\d{1,16})-(\d{1,16})-([01])")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
        microseconds = (self.moment - _EPOCH) // timedelta(microseconds=1)
        return f"{self.verb}-all-{self.count}-{microseconds}-{self.after}-{self.up_to}-{int(self.is_pending)}"


Change = RowsChanged | AllChanged


def parse(text: str) -> Change | None:
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
        moment=_EPOCH + timedelta(microseconds=microseconds),
        after=after,
        up_to=up_to,
        is_pending=bool(is_pending),
    )


def describe_wrong_time() -> str:
    return gettext("Choose a time in the future, at most a year ahead.")


def describe(change: Change) -> str:
    """Return the text about a change for its user."""
    count = change.count
    if change.is_pending:
        # The page has a note about the rest.
        return gettext("%(count)d changed so far.") % {"count": count}
    if count == 0:
        return gettext("Nothing was left to change.")
    if change.verb == "read":
        text = ngettext("%(count)d marked as read.", "%(count)d marked as read.", count)
    elif change.verb == "unread":
        text = ngettext("%(count)d marked as unread.", "%(count)d marked as unread.", count)
    elif change.verb == SNOOZE:
        text = ngettext("%(count)d snoozed.", "%(count)d snoozed.", count)
    elif change.verb == "archive":
        text = ngettext("%(count)d moved to Done.", "%(count)d moved to Done.", count)
    else:
        text = ngettext("%(count)d moved to the inbox.", "%(count)d moved to the inbox.", count)
    return text % {"count": count}
