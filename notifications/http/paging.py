"""A page of a long list, for the API and for pages of users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.template.loader import render_to_string

from notifications.db.keyset import Order, Page
from notifications.http.parsing import DEFAULT_PAGE_SIZE, parse_limit
from notifications.problems import Problem

#: The parameters with the position after which, or before which, the page begins.
AFTER, BEFORE = "after", "before"


@dataclass(frozen=True, kw_only=True, slots=True)
class RowPage:
    """What ``paginate()`` returns."""

    rows: list[Any]
    next: str | None
    previous: str | None
    request: HttpRequest

    @property
    def links(self) -> str:
        newer = self.previous and self._url(BEFORE, self.previous)
        older = self.next and self._url(AFTER, self.next)
        urls = {"newest_url": self._url(), "newer_url": newer, "older_url": older, "replaces_rows": True}
        return render_to_string("notifications/pages.html", urls)

    def _url(self, name: str = "", value: str = "") -> str:
        parameters = self.request.GET.copy()
        for removed in (AFTER, BEFORE):
            parameters.pop(removed, None)
        if name:
            parameters[name] = value
        return f"{self.request.path}?{parameters.urlencode()}"


def paginate(
    request: HttpRequest, rows: Any, order: Sequence[str], *, limit: int = DEFAULT_PAGE_SIZE
) -> RowPage:
    """Return the page of a list that a request asks for, newest first. It makes one query.

    A page begins at a row, not at a number (keyset paging): the last one of a million rows opens as fast as the first,
    and what is added meanwhile moves no row to another page. The query string has ``after`` or ``before``, and may have
    ``limit``, up to 100.

    ``rows``
        A queryset.
    ``order``
        The fields that order it, which an index has: ``("sent_at", "id")``. Times, dates, integers or UUIDs, never
        NULL, the last one unique.
    ``limit``
        Rows of a page.

    The page has ``rows``, a list; ``next`` and ``previous``, the values of ``after`` and ``before`` of the pages beside
    it, None where there is none; and ``links``, the HTML that leads there.

    Raises ``Problem`` 422, which ``page_view`` and ``api_view`` show.
    """
    limit = parse_limit(request, default=limit)
    downwards = Order(fields=tuple(order))
    is_upwards = BEFORE in request.GET
    name = BEFORE if is_upwards else AFTER
    direction = downwards.reversed() if is_upwards else downwards
    text, start = request.GET.get(name), None
    if text is not None:
        try:
            start = direction.parse(rows.model, text)
        except ValueError as exc:
            other = "previous" if is_upwards else "next"
            text = f"{name} must be the value of {other} in another page."
            raise Problem(422, text, field=name) from exc
    found = list(direction.sort(direction.after(rows, start))[: limit + 1])
    page = Page(positions=[direction.position_of(row) for row in found[:limit]], has_more=len(found) > limit)
    previous, next = page.find_neighbors(start, is_upwards=is_upwards)
    return RowPage(
        rows=found[:limit][:: -1 if is_upwards else 1],
        next=str(next) if next else None,
        previous=str(previous) if previous else None,
        request=request,
    )
