"""The views of the inbox that users have saved: a name for a list with filters."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from django.core.exceptions import BadRequest
from django.http import QueryDict

from notifications.db.bulk import lock_query
from notifications.db.transactions import database, retrying_atomic
from notifications.inbox.query import InboxQuery, parse_query
from notifications.models import InboxViews
from notifications.validators import encodable

#: Views of one user, and characters of the name of one.
MAX_VIEWS, MAX_NAME_LENGTH = 20, 40


class SavedView(NamedTuple):
    """A list of the inbox with a name. ``query`` is its query string, of which a user has saved one view at most."""

    name: str
    query: str

    @property
    def url(self) -> str:
        return InboxQuery().url() + f"?{self.query}"


class TooManyViews(Exception):
    """The user has saved ``MAX_VIEWS`` views."""


def put_view(user: Any, query: str, name: str, place: int | None = None) -> tuple[str, int]:
    """Name the view with this query string, and save it if it is new: at this place, or as the last one.

    An empty ``name`` deletes it. Returns the name that it had, "" if it is new, and its place.
    Raises BadRequest for a name or query that no view can have, and ``TooManyViews``.
    """
    if len(name) > MAX_NAME_LENGTH or "\0" in name or not encodable(name):
        raise BadRequest(f"name must be text of 1 to {MAX_NAME_LENGTH} characters.")
    if not query or parse_query(QueryDict(query)).key != query:
        raise BadRequest("query must be that of a list of the inbox with filters.")

    def put(views: list[SavedView]) -> tuple[str, int]:
        found = next((number for number, view in enumerate(views) if view.query == query), None)
        before = "" if found is None else views.pop(found).name
        at = found if found is not None else len(views) if place is None else place
        if name and len(views) >= MAX_VIEWS:
            raise TooManyViews
        if name:
            views.insert(at, SavedView(name, query))
        return before, at

    return _change(user, put)


def _change(user: Any, change: Callable[[list[SavedView]], tuple[str, int]]) -> tuple[str, int]:
    rows = InboxViews.objects.using(database())

    def write() -> tuple[str, int]:
        rows.bulk_create([InboxViews(user_id=user)], ignore_conflicts=True)
        [row] = lock_query(rows.filter(user=user), skip_locked=False)
        views = [SavedView(*view) for view in json.loads(row.views)]
        result = change(views)
        rows.filter(user=user).update(views=json.dumps(views))
        return result

    return retrying_atomic(write)
