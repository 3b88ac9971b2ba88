"""Lists of long tables: keyset pages, and counts that are estimated instead of counting each row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse
from django.utils import formats
from django.utils.translation import gettext as _

from notifications.admin.filters import ListFilter, UserFilter
from notifications.admin.mixins import FilteredChangeList, ReadOnlyMixin
from notifications.db import keyset
from notifications.db.keyset import Order, Page, RowPosition, count_rows, estimate_rows, read_page
from notifications.db.transactions import connection
from notifications.ids import parse_id

#: Parameters of the page's address: the position after which, or before which, the page begins.
OLDER_VAR, NEWER_VAR = "older", "newer"
#: The parameter with which a search does not go on by itself.
STAY_VAR = "stay"
#: Seconds after which the next part of the table is searched, if this one had no rows to show.
SEARCH_PAUSE_SECONDS = 1
#: Rows are counted up to this number.
MAX_ROWS_COUNTED = 10_000


class KeysetChangeList(FilteredChangeList):
    """A list of the admin whose pages begin after a row of the table, not at a number."""

    #: Where a search goes on by itself that has found nothing yet, and the same page without that.
    further_url: str | None = None
    stay_url: str | None = None

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        positions = {name: self._remove_parameter(name) for name in (OLDER_VAR, NEWER_VAR)}
        self.stays = bool(self._remove_parameter(STAY_VAR))
        self.is_upwards = bool(positions[NEWER_VAR])
        text = positions[NEWER_VAR] or positions[OLDER_VAR]
        try:
            if any("\0" in value for values in self.filter_params.values() for value in values):
                raise ValueError("PostgreSQL stores no NUL.")
            self.start = self.model_admin.keyset_order.parse(self.model, text) if text else None
            return super().get_queryset(request, exclude_parameters)
        except ValueError as exc:
            raise IncorrectLookupParameters(exc) from exc

    def get_ordering(self, request: HttpRequest, queryset: Any) -> Any:
        order = self.order
        return [field if order.is_ascending else f"-{field}" for field in order.fields]

    @property
    def order(self) -> Order:
        """The order that the header of the list's only sortable column has chosen."""
        order: Order = self.model_admin.keyset_order
        ordering = super().get_ordering(None, self.root_queryset)
        return order.reversed() if ordering[0] == order.fields[0] else order

    def get_results(self, request: HttpRequest) -> None:
        rows, slices_of = self.model_admin.narrow(request, self)
        order = self.order.reversed() if self.is_upwards else self.order
        keep = self.model_admin.row_check(self)
        page = read_page(
            rows, order, limit=self.list_per_page, after=self.start, slices_of=slices_of, keep=keep
        )
        positions = page.positions[::-1] if self.is_upwards else page.positions
        self._count(page, rows, slices_of, is_query=keep is None)
        self.can_show_all = self.is_counted and self.result_count <= self.list_max_show_all
        self.multi_page = bool(self.start or page.has_more or page.stopped_at)
        if self.show_all and self.can_show_all:
            positions = read_page(
                rows, self.order, limit=self.list_max_show_all, slices_of=slices_of, keep=keep
            ).positions
            self.multi_page = False
        else:
            self._set_links(page)
        self.result_list = self._read(positions)
        # Of a page without a total Django shows neither "of 1,000" nor the number of all rows.
        self.full_result_count, self.show_full_result_count = self.result_count, False
        self.show_admin_actions = True
        self.paginator = self.model_admin.get_paginator(request, self.result_list, self.list_per_page)

    def _read(self, positions: list[RowPosition]) -> list[Any]:
        ids = [position.values[-1] for position in positions]
        found = self.root_queryset.defer(*self.model_admin.list_defer).in_bulk(ids)
        return [found[id] for id in ids if id in found]

    def _count(self, page: Page, rows: Any, slices_of: Any, *, is_query: bool) -> None:
        """Set the number of rows, the text that shows it, and whether it is exact."""
        shown = len(page.positions)
        self.is_counted = True
        is_whole = self.start is None and not page.has_more and page.stopped_at is None
        if is_whole:
            self.result_count = shown
        elif slices_of is None:
            self.result_count = count_rows(rows, MAX_ROWS_COUNTED + 1)
            self.is_counted = self.result_count <= MAX_ROWS_COUNTED
        elif is_query and self.order.position_at(slices_of, keyset.MAX_ROWS_READ + 1) is None:
            among = self.order.sort(slices_of)[: keyset.MAX_ROWS_READ]
            self.result_count = count_rows(rows, keyset.MAX_ROWS_READ, among=among)
        else:
            # Counting would read each row of a long table to see whether it matches.
            self.is_counted, self.result_count = False, shown + 1
        self.count_text = self._describe_count(is_estimated=slices_of is None)

    def _describe_count(self, *, is_estimated: bool) -> str:
        name = self.opts.verbose_name if self.result_count == 1 else self.opts.verbose_name_plural
        if self.is_counted:
            return f"{formats.number_format(self.result_count, force_grouping=True)} {name}"
        if not is_estimated:
            return ""
        if not self.is_filtered:
            count = max(estimate_rows(self.model, connection()), self.result_count)
            digits = max(len(str(count)) - 2, 0)
            rounded = formats.number_format(round(count, -digits), force_grouping=True)
            return _("about %(count)s %(name)s") % {"count": rounded, "name": name}
        limit = formats.number_format(MAX_ROWS_COUNTED, force_grouping=True)
        return _("over %(count)s %(name)s") % {"count": limit, "name": name}

    @property
    def is_filtered(self) -> bool:
        """Whether the page shows a selection of the rows."""
        # Those that select until a value is chosen do the opposite of the others.
        reversed_filters = {
            spec.parameter_name
            for spec in self.filter_specs
            if isinstance(spec, ListFilter) and spec.is_on_by_default
        }
        return bool(self.query or reversed_filters ^ set(self.get_filters_params()))

    def _set_links(self, page: Page) -> None:
        """Set the addresses of the pages before and after this one; that of a page that does not exist is None."""
        previous_position, next_position = page.find_neighbors(self.start, is_upwards=self.is_upwards)
        self.next_url = next_position and self.get_query_string({OLDER_VAR: str(next_position)})
        self.previous_url = previous_position and self.get_query_string({NEWER_VAR: str(previous_position)})
        self.first_url = self.get_query_string() if self.start else None
        self.stopped_at = page.stopped_at
        further = self.previous_url if self.is_upwards else self.next_url
        if page.stopped_at and not page.positions:
            self.further_url = str(further) if further and not self.stays else None
            place = NEWER_VAR if self.is_upwards else OLDER_VAR
            start = {place: str(self.start)} if self.start else {}
            self.stay_url = self.get_query_string({**start, STAY_VAR: "1"})

    def _remove_parameter(self, name: str) -> str:
        # Links of filters and of the search lead to the first page.
        self.filter_params.pop(name, None)
        return self.params.pop(name, "")


class OwnedMixin(ReadOnlyMixin):
    """Makes an admin of rows with users read-only, and its list as fast with a million rows as with a hundred.

    The users are read separately, because they may be in another database, which cannot be joined. ``user_field`` in
    ``list_filter`` is a filter by the name of the user. The app of the model has a template
    ``admin/<label>/pagination.html`` that includes ``admin/notifications/pagination.html``.
    """

    #: The foreign key to the user.
    user_field = "user"
    list_select_related = ()  # False would join the foreign keys in list_display
    #: Columns that order the list, which an index yields.
    keyset_order = Order(fields=("id",))
    #: Columns that the list does not show, and that may be large.
    list_defer: tuple[str, ...] = ()
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # Each would count all rows.

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return KeysetChangeList

    def get_list_filter(self, request: HttpRequest) -> Any:
        specs = super().get_list_filter(request)  # type: ignore[misc]
        return [UserFilter if spec == self.user_field else spec for spec in specs]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)  # type: ignore[misc]
        set_users(changelist.result_list, self.user_field)
        return changelist

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        row = super().get_object(request, object_id, from_field)  # type: ignore[misc]
        set_users([row] if row else [], self.user_field)
        return row

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Return the list; one that shows no row although not all were searched leads on to the next part by itself."""
        context = {"links": self.list_links(request), **(extra_context or {})}
        response = super().changelist_view(request, context)  # type: ignore[misc]
        changelist = (getattr(response, "context_data", None) or {}).get("cl")
        if further := getattr(changelist, "further_url", None):
            response["Refresh"] = f"{SEARCH_PAUSE_SECONDS}; url={request.path}{further}"
        return response  # type: ignore[no-any-return]

    def list_links(self, request: HttpRequest) -> list[tuple[Any, str]]:
        """Return the label and address of each link above the list of notifications that the user may follow."""
        return []

    def narrow(self, request: HttpRequest, changelist: KeysetChangeList) -> tuple[Any, Any]:
        """Return the rows of the list as an index yields them, and the slices to read: see ``read_page``."""
        rows, slices_of = changelist.queryset, changelist.root_queryset if changelist.is_filtered else None
        if id := parse_id(changelist.query):
            rows, slices_of = rows.filter(pk=id), None
        for spec in changelist.filter_specs:
            if isinstance(spec, ListFilter):
                rows, slices_of = spec.narrow(request, changelist, rows, slices_of)
        return rows, slices_of

    def row_check(self, changelist: KeysetChangeList) -> Callable[[list[Any]], Collection[Any]] | None:
        """Return what decides which rows of the slices are listed, None if a query does: see ``read_page``."""
        checks = (spec.row_check() for spec in changelist.filter_specs if isinstance(spec, ListFilter))
        return next(filter(None, checks), None)


def set_users(rows: Iterable[Any], name: str) -> None:
    """Read the users of rows, whose foreign key has this name, by one query."""
    keys = [getattr(row, f"{name}_id") for row in rows]
    users = get_user_model()._base_manager.in_bulk(set(keys) - {None})
    for row, key in zip(rows, keys, strict=True):
        row._meta.get_field(name).set_cached_value(row, users.get(key))
