"""What the URLs of the inbox say: which list is shown, and what a form has changed, which the page offers to undo."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.core.exceptions import BadRequest
from django.http import QueryDict
from django.urls import reverse
from django.utils.translation import gettext, ngettext

from notifications import times
from notifications.inbox.categories import load_categories
from notifications.inbox.lists import PAGE_SIZE, QUESTIONS, SNOOZED
from notifications.models.streams import NotificationLevel
from notifications.streams.building import NAMED
from notifications.streams.grouping import group_name
from notifications.streams.listing import Filters
from notifications.streams.marking import VERBS
from notifications.validators import MAX_INTEGER, MAX_NAME_LENGTH, encodable

#: What each view lists.
VIEWS = {
    "inbox": Filters(),
    "unread": Filters(read=False),
    "questions": QUESTIONS,
    "snoozed": SNOOZED,
    "done": Filters(archived=True, snoozed=False),
}
#: The parameters that describe the last change, and have all rows of the page selected.
CHANGED, SELECTED = "changed", "selected"
#: The parameter with which an inbox that is open loads its views again, for their counts, with the row of a group, the
#: content of its pane, and what a form has changed.
PART = "part"
#: Characters of a search, and words that it can have.
MAX_SEARCH_LENGTH, MAX_WORDS = 100, 8
#: Categories that one list can name.
MAX_CHOSEN_CATEGORIES = 20
#: Notifications that one form can name: those of a page.
MAX_IDS = PAGE_SIZE
#: The parameter after a form that named no notification or a wrong time, or saved one view too many; and after an undo.
NOTHING_SELECTED, WRONG_TIME, TOO_MANY_VIEWS, UNDONE = "none", "time", "views", "undone"
#: What the message of an extension begins with.
SAID = "said."
#: What can be done with named notifications: the verbs of marks, and to snooze them.
SNOOZE = "snooze"
_ROWS_CHANGED = re.compile(rf"({'|'.join(VERBS)}|{SNOOZE})((?:-[0-9a-f]{{32}}){{0,{MAX_IDS}}})")
_ALL = re.compile(r"(read|archive)-all-(\d{1,9})-(\d{1,17})-(\d{1,16})-(\d{1,16})-([01])")


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxQuery:
    """What the inbox page shows. ``""`` and None: not filtered.

    ``categories``, ``is_except``
        Those of these categories, or of all but these.
    ``group_title``
        What the row of the group says, which its filter says too.
    """

    view: str = "inbox"
    group: str = ""
    group_title: str = ""
    categories: tuple[str, ...] = ()
    is_except: bool = False
    level: str = ""
    search: str = ""
    after: int | None = None
    before: int | None = None

    @property
    def is_filtered(self) -> bool:
        return bool(self.group or self.has_fields)

    @property
    def filters(self) -> Filters:
        words = tuple(self.search.split()[:MAX_WORDS])
        return replace(
            VIEWS[self.view],
            group=self.group or None,
            categories=self.categories,
            is_except=self.is_except,
            level=self.level,
            words=words,
        )

    @property
    def has_fields(self) -> bool:
        """Return whether it has filters that the fields of the page show: all but the group."""
        return bool(self.categories or self.level or self.search)

    @property
    def category_label(self) -> str:
        """Return what the field of categories says: the names of those that are chosen."""
        names = ", ".join(str(load_categories().name(key)) for key in self.categories)
        return gettext("Not %(names)s") % {"names": names} if self.is_except else names

    @property
    def group_label(self) -> str:
        return self.group_title or group_name(self.group) or gettext("Group")

    def url(self, **changes: Any) -> str:
        """Return the URL of the inbox with this query and these changes of it."""
        text = encode(replace(self, **changes))
        return reverse("notifications:inbox") + (f"?{text}" if text else "")


#: The first page of the inbox.
INBOX = InboxQuery()
#: Names of the parameters in URLs, by fields.
PARAMETERS = {
    "view": "view",
    "group": "group",
    "categories": "category",
    "is_except": "except",
    "level": "level",
    "search": "q",
    "after": "after",
    "before": "before",
}


def encode(query: InboxQuery) -> str:
    """Return the query string of a query, ``""`` for the first page of the inbox."""
    values = {
        name: value
        for field, name in PARAMETERS.items()
        if (value := getattr(query, field)) not in (None, "", (), False)
    }
    if query.is_except:
        values[PARAMETERS["is_except"]] = 1
    if query.view == "inbox":
        del values["view"]
    return urlencode(values, doseq=True)


def parse_query(parameters: QueryDict) -> InboxQuery:
    """Return the query of these parameters. Raises BadRequest."""
    view = parameters.get("view", "inbox")
    if view not in VIEWS:
        raise BadRequest(f"view must be one of {', '.join(VIEWS)}.")
    level = parameters.get("level", "")
    if level not in ("", *NotificationLevel.values):
        raise BadRequest(f"level must be one of {', '.join(NotificationLevel.values)}.")
    categories, search = tuple(filter(None, parameters.getlist("category"))), parameters.get("q", "").strip()
    if len(categories) > MAX_CHOSEN_CATEGORIES:
        raise BadRequest(f"There can be at most {MAX_CHOSEN_CATEGORIES} categories.")
    # Only the inbox has groups.
    group = "" if VIEWS[view].archived or VIEWS[view].questions else parameters.get("group", "")
    for name, text, limit in (
        ("group", group, len(NAMED) + MAX_NAME_LENGTH),
        *(("category", category, MAX_NAME_LENGTH) for category in categories),
        ("q", search, MAX_SEARCH_LENGTH),
    ):
        if len(text) > limit or "\0" in text or not (text.isascii() or encodable(text)):
            raise BadRequest(f"{name} must be text of at most {limit} characters.")
    after, before = (
        parse_position(parameters[name]) if name in parameters else None for name in ("after", "before")
    )
    return InboxQuery(
        view=view,
        group=group,
        categories=categories,
        is_except=bool(categories) and "except" in parameters,
        level=level,
        search=search,
        after=after,
        before=before,
    )


def add_parameter(url: str, name: str, value: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{name}={value}"


def parse_position(text: str) -> int:
    """Return a position of a stream. Raises BadRequest."""
    if not (text.isascii() and text.isdigit() and len(text) < 17) or int(text) > MAX_INTEGER:
        raise BadRequest("A position must be an integer of 0 or more.")
    return int(text)


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
