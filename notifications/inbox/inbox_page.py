"""The inbox page as one value: what it lists, and what is shown around the list. Templates ask it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_safe

from notifications import times
from notifications.db.adapters import user_to_db
from notifications.db.transactions import dialect
from notifications.extension import hooks
from notifications.http.access import page_view
from notifications.inbox.categories import load_categories
from notifications.inbox.changes import CHANGED, SNOOZE_TIMES, describe_last_change
from notifications.inbox.query import (
    PAGE_SIZE,
    PART,
    SELECTED,
    VIEWS,
    InboxQuery,
    add_parameter,
    parse_query,
)
from notifications.inbox.rows import InboxRow, Section, make_sections, read_rows
from notifications.inbox.saved_views import MAX_NAME_LENGTH, SavedView
from notifications.models import Notification
from notifications.models.streams import NotificationLevel
from notifications.streams import grouping, listing
from notifications.streams.grouping import GroupedPage
from notifications.streams.listing import Filters, read_numbered_position_with
from notifications.streams.marking_all import PENDING_KIND
from notifications.streams.positions import StreamPosition

#: Open questions above the list, as in the bell.
MAX_WAITING = 3
#: Notifications of each partition in which categories are looked for, and categories that are found at most.
MAX_ROWS_OF_CATEGORIES, MAX_CATEGORIES = 300, 50
#: Notifications that a list says it has, at most.
MAX_TOTAL = 1_000
#: The greatest count of a view that is shown.
MAX_COUNT = 99


@page_view
@require_safe
def inbox(request: HttpRequest) -> HttpResponse:
    """Show a page of the user's notifications, newest first: of a view, filtered, or those that a search finds."""
    query, part = parse_query(request.GET), request.GET.get(PART)
    context: dict[str, Any] = {"query": query}
    if change := request.GET.get(CHANGED):
        context |= describe_last_change(request.user.pk, change, query.view)
    if part == "message":
        return render(request, "notifications/inbox_message.html", context)
    page = InboxPage.read(request.user, query, selected=request.GET.get(SELECTED))
    context |= {"page": page, "notifications_position": page.position, "has_inbox": True}
    return render(request, f"notifications/{'inbox_part' if part == 'views' else 'inbox'}.html", context)


@dataclass(frozen=True, kw_only=True, eq=False)
class InboxPage:
    """What the inbox shows a user for a query, as it was at ``position``. ``read()`` returns it.

    Each part that is not shown on all pages is read once, when it is first used.

    ``user``
        An instance of the model.
    ``counts``
        Of the views, of which at most ``MAX_COUNT`` are counted, but for what is unread. What is done is not: nothing
        is left to do there.
    ``listed_categories``
        Those of the newest notifications of the list.
    ``pending``
        See ``PENDING_KIND``.
    ``selected``
        ``"page"`` or ``"all"``: which rows are selected without a script.
    """

    user: Any
    query: InboxQuery
    position: StreamPosition
    counts: Mapping[str, int]
    listed_categories: list[str]
    saved_views: list[SavedView]
    pending: int | None
    selected: str | None = None

    levels = NotificationLevel.choices
    snooze_times = SNOOZE_TIMES
    max_view_name = MAX_NAME_LENGTH

    @classmethod
    def read(cls, user: Any, query: InboxQuery, *, selected: str | None = None) -> InboxPage:
        """Read the position of a user and what all pages show. It is one query if all rows have a number."""
        columns, number = [], 0
        for counted in (VIEWS["inbox"], VIEWS["snoozed"]):
            selects = counted.select_each("1", "raised <= head", f"LIMIT {MAX_COUNT + 1}")
            columns.append(f"(SELECT COUNT(*) FROM ({' UNION ALL '.join(selects)}) AS counted)")
            number += len(selects)
        selects = VIEWS[query.view].select_each(
            "category", "raised > 0", f"ORDER BY raised DESC LIMIT {MAX_ROWS_OF_CATEGORIES}"
        )
        names = dialect().json_array("category")
        columns += [
            f"(SELECT {names} FROM (SELECT DISTINCT category FROM ({' UNION ALL '.join(selects)}) AS newest "
            f"WHERE category <> '' ORDER BY category LIMIT {MAX_CATEGORIES}) AS named)",
            "(SELECT views FROM notifications_inboxviews WHERE user_id = %s)",
            PENDING_KIND,
        ]
        params = [user_to_db(user.pk)] * (number + len(selects) + 2)
        position, (inbox, snoozed, categories, saved, pending) = read_numbered_position_with(
            user.pk, columns, params
        )
        return cls(
            user=user,
            query=query,
            position=position,
            counts={
                "inbox": inbox,
                "unread": position.unread,
                "questions": position.questions,
                "snoozed": snoozed,
                "done": 0,
            },
            listed_categories=json.loads(categories or "[]"),
            saved_views=[SavedView(*view) for view in json.loads(saved or "[]")],
            pending=pending,
            selected=selected,
        )

    @property
    def views(self) -> list[tuple[str, str, str, str]]:
        """Return the name, label, URL and count of each view.

        Questions and what is snoozed have a view while there are any, or while it is shown.
        """
        labels = {
            "inbox": gettext("Inbox"),
            "unread": gettext("Unread"),
            "questions": gettext("Questions"),
            "snoozed": gettext("Snoozed"),
            "done": gettext("Done"),
        }
        views = []
        for name, label in labels.items():
            count = self.counts[name]
            if count or name == self.query.view or name not in ("questions", "snoozed"):
                # Of the others no more are counted.
                is_cut = count > MAX_COUNT and name != "unread"
                shown = f"{MAX_COUNT}+" if is_cut else times.format_number(count) if count else ""
                views.append((name, label, InboxQuery(view=name).url(), shown))
        return views

    @property
    def can_save_view(self) -> bool:
        return bool(self.query.key)

    @cached_property
    def saved_view(self) -> SavedView | None:
        """Return which of the saved views the list is."""
        return next((view for view in self.saved_views if view.query == self.query.key), None)

    @property
    def view_label(self) -> str:
        return gettext("Edit view") if self.saved_view else gettext("Save view")

    @cached_property
    def categories(self) -> list[str]:
        """Return the categories that the list can be narrowed to."""
        return load_categories().sort_by_name({*self.listed_categories, *self.query.categories})

    @property
    def page_links(self) -> list[Any]:
        return [link for hook in hooks.page_links for link in hook("inbox")]

    @property
    def is_being_read(self) -> bool:
        return self.pending == 2

    @cached_property
    def listed(self) -> GroupedPage:
        """The rows of the page, below ``query.after`` or above ``query.before``."""
        query, head = self.query, self.position.seq
        return grouping.read_list_page(
            self.user.pk, PAGE_SIZE, head=head, after=query.after, before=query.before, filters=query.filters
        )

    @property
    def rows(self) -> list[Notification]:
        return self.listed.rows

    @property
    def searched(self) -> int:
        return listing.MAX_ROWS_SEARCHED

    @property
    def is_partial(self) -> bool:
        return self.listed.is_partial

    @cached_property
    def waiting(self) -> list[Notification]:
        """The newest open questions, which are above the list."""
        if not self.position.questions or self.query not in (InboxQuery(), InboxQuery(view="unread")):
            return []
        return self._read_newest(MAX_WAITING, VIEWS["questions"])

    @cached_property
    def failed(self) -> list[Notification]:
        """The newest notifications of a group that are errors, which are above the others of it."""
        query = self.query
        if not query.group or query != InboxQuery(view=query.view, group=query.group):
            return []
        return self._read_newest(PAGE_SIZE, replace(query.filters, level="error"))

    def _read_newest(self, limit: int, filters: Filters) -> list[Notification]:
        below = self.position.seq + 1
        return listing.read_between(self.user.pk, limit, above=None, below=below, filters=filters)

    @cached_property
    def sections(self) -> list[Section]:
        listed = self.listed
        return make_sections(self.user, listed.rows, listed.groups, self.query, self.waiting, self.failed)

    @property
    def questions_url(self) -> str:
        is_more = self.position.questions > len(self.waiting)
        return InboxQuery(view="questions").url() if is_more else ""

    @cached_property
    def group(self) -> InboxRow | None:
        """The row that stands for the group whose notifications are listed, None if that has none or is no group."""
        query = self.query
        if not query.group:
            return None
        group, newest = grouping.read_group(
            self.user.pk, query.group, head=self.position.seq, filters=VIEWS[query.view]
        )
        return read_rows(self.user, [newest], {newest.pk: group}, query)[0] if newest else None

    @property
    def group_label(self) -> str:
        title = self.group.group.title if self.group and self.group.group else ""
        return title or grouping.group_name(self.query.group) or gettext("Group")

    @cached_property
    def total(self) -> str:
        """How many a list with filters has that all can be selected of: "158", or "1000+" if there are more.

        Those that are searched for a page are counted, so "12+" says that more are not searched.
        """
        query, listed = self.query, self.listed
        is_whole = listed.after is None and listed.before is None
        if query.view != "inbox" or not query.is_filtered or query.search or is_whole:
            return ""
        total, is_counted = listing.count(
            self.user.pk, MAX_TOTAL + 1, head=self.position.seq, filters=query.filters
        )
        return f"{MAX_TOTAL}+" if total > MAX_TOTAL else f"{total}{'' if is_counted else '+'}"

    @property
    def total_label(self) -> str:
        """Return the text of the button that selects all that a list has, on all of its pages."""
        query = self.query
        names = [self.group_label] if query.group else []
        if query.categories:
            names.append(query.category_label)
        if not names or query.is_except:
            return gettext("Select all %(count)s") % {"count": self.total}
        return gettext("Select all %(count)s in %(name)s") % {"count": self.total, "name": ", ".join(names)}

    @property
    def is_all_selected(self) -> bool:
        return self.selected == "all" and bool(self.total)

    @property
    def mark_all_url(self) -> str:
        name = "inbox-mark-filter" if self.query.has_fields else "inbox-mark"
        return reverse(f"notifications:{name}")

    @cached_property
    def urls(self) -> dict[str, str]:
        """Return where links of the page lead, by what they show: ``""`` for the pages that there are not."""
        query, listed = self.query, self.listed
        url = query.url()
        return {
            "selected": add_parameter(url, SELECTED, "page"),
            "all_selected": add_parameter(url, SELECTED, "all"),
            "unselected": url,
            "ungrouped": query.url(group="", after=None, before=None),
            "unfiltered": InboxQuery(view=query.view).url(),
            "older": "" if listed.after is None else query.url(after=listed.after, before=None),
            "newer": "" if listed.before is None else query.url(after=None, before=listed.before),
            "newest": query.url(after=None, before=None),
        }
