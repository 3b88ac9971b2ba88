"""Which list the URL of an inbox page names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import BadRequest
from django.http import QueryDict
from django.urls import reverse
from django.utils.translation import gettext

from notifications.inbox.categories import load_categories
from notifications.models.streams import NotificationLevel
from notifications.streams.building import NAMED
from notifications.streams.listing import Filters
from notifications.validators import MAX_INTEGER, MAX_NAME_LENGTH, encodable

#: What each view lists.
VIEWS = {
    "inbox": Filters(),
    "unread": Filters(read=False),
    "questions": Filters(read=False, questions=True),
    "snoozed": Filters(archived=True, snoozed=True),
    "done": Filters(archived=True, snoozed=False),
}
#: The parameter that has all rows of the page selected.
SELECTED = "selected"
#: The parameter with which an inbox that is open loads its views again, for their counts, with the row of a group, the
#: content of its pane, and what a form has changed.
PART = "part"
#: Characters of a search, and words that it can have.
MAX_SEARCH_LENGTH, MAX_WORDS = 100, 8
#: Categories that one list can name.
MAX_CHOSEN_CATEGORIES = 20
#: Notifications on one page.
PAGE_SIZE = 25
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


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxQuery:
    """What the inbox page shows. ``""`` and None: not filtered.

    ``categories``, ``is_except``
        Those of these categories, or of all but these.
    """

    view: str = "inbox"
    group: str = ""
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
    def key(self) -> str:
        """Return the query string of the list as a view is saved, "" for one without filters or of a group."""
        if not self.has_fields or self.group:
            return ""
        return replace(self, after=None, before=None, categories=tuple(sorted(self.categories))).encode()

    @property
    def category_label(self) -> str:
        """Return what the field of categories says: the names of those that are chosen."""
        names = ", ".join(str(load_categories().name(key)) for key in self.categories)
        return gettext("Not %(names)s") % {"names": names} if self.is_except else names

    def encode(self) -> str:
        """Return the query string, ``""`` for the first page of the inbox."""
        values = {
            name: value
            for field, name in PARAMETERS.items()
            if (value := getattr(self, field)) not in (None, "", (), False)
        }
        if self.is_except:
            values[PARAMETERS["is_except"]] = 1
        if self.view == "inbox":
            del values["view"]
        return urlencode(values, doseq=True)

    def url(self, **changes: Any) -> str:
        """Return the URL of the inbox with this query and these changes of it."""
        text = replace(self, **changes).encode()
        return reverse("notifications:inbox") + (f"?{text}" if text else "")


#: The first page of the inbox.
INBOX = InboxQuery()


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
