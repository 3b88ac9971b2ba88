"""The query of the inbox page: its view, filters, search and position."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import BadRequest
from django.http import QueryDict
from django.urls import reverse
from django.utils.translation import gettext

from notifications.models.levels import NotificationLevel
from notifications.streams.categories import load_categories
from notifications.streams.groups import NAMED, group_name
from notifications.streams.listing import Filters
from notifications.validators import MAX_CATEGORY_LENGTH, MAX_GROUP_LENGTH, MAX_INTEGER, encodable

#: What each view lists.
VIEWS = {
    "inbox": Filters(),
    "unread": Filters(read=False),
    "questions": Filters(read=False, questions=True),
    "snoozed": Filters(archived=True, snoozed=True),
    "done": Filters(archived=True, snoozed=False),
}
#: Characters of a search, and words that it can have.
MAX_SEARCH_LENGTH, MAX_WORDS = 100, 8


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxQuery:
    """What the inbox page shows. ``""`` and None: not filtered."""

    view: str = "inbox"
    group: str = ""
    category: str = ""
    level: str = ""
    search: str = ""
    after: int | None = None
    before: int | None = None

    @property
    def is_filtered(self) -> bool:
        return bool(self.group or self.category or self.level or self.search)

    @property
    def filters(self) -> Filters:
        words = tuple(self.search.split()[:MAX_WORDS])
        return replace(
            VIEWS[self.view],
            group=self.group or None,
            category=self.category or None,
            level=self.level,
            words=words,
        )

    @property
    def chips(self) -> list[tuple[str, str]]:
        """Return the filters that are chosen, but for the search: their labels, and the URL without each."""
        level = NotificationLevel(self.level).label if self.level else ""
        group = (group_name(self.group) or gettext("Group")) if self.group else ""
        chosen = {"group": group, "category": load_categories().get(self.category).name, "level": level}
        return [
            (str(label), self.url(**{name: ""}, after=None, before=None))
            for name, label in chosen.items()
            if label
        ]

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
    "category": "category",
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
        if (value := getattr(query, field)) not in (None, "")
    }
    if query.view == "inbox":
        del values["view"]
    return urlencode(values)


def parse(parameters: QueryDict) -> InboxQuery:
    """Return the query of these parameters. Raises BadRequest."""
    view = parameters.get("view", "inbox")
    if view not in VIEWS:
        raise BadRequest(f"view must be one of {', '.join(VIEWS)}.")
    level = parameters.get("level", "")
    if level not in ("", *NotificationLevel.values):
        raise BadRequest(f"level must be one of {', '.join(NotificationLevel.values)}.")
    category, search = parameters.get("category", ""), parameters.get("q", "").strip()
    # Only the inbox has groups.
    group = "" if VIEWS[view].archived or VIEWS[view].questions else parameters.get("group", "")
    for name, text, limit in (
        ("group", group, len(NAMED) + MAX_GROUP_LENGTH),
        ("category", category, MAX_CATEGORY_LENGTH),
        ("q", search, MAX_SEARCH_LENGTH),
    ):
        if len(text) > limit or "\0" in text or not encodable(text):
            raise BadRequest(f"{name} must be text of at most {limit} characters.")
    positions = {
        name: parse_position(parameters[name]) if name in parameters else None for name in ("after", "before")
    }
    return InboxQuery(view=view, group=group, category=category, level=level, search=search, **positions)


def parse_position(text: str) -> int:
    """Return a position of a stream. Raises BadRequest."""
    if not (text.isascii() and text.isdigit() and len(text) < 17) or int(text) > MAX_INTEGER:
        raise BadRequest("A position must be an integer of 0 or more.")
    return int(text)
