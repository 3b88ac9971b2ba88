"""The filters beside the list of notifications. Their choices never come from a whole table."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from notifications.admin.filters import NotificationUserFilter
from notifications.contrib.operations.admin.time_filters import CreatedFilter
from notifications.db.transactions import database
from notifications.models import Notification

#: The newest notifications that the choices of a filter come from.
MAX_ROWS_READ = 300
#: How far the time in an id may be from the time of creation.
ID_TOLERANCE = timedelta(minutes=1)


class CategoryFilter(admin.SimpleListFilter):
    """Filters notifications by category. The choices are those of the newest notifications."""

    title = _("category")
    parameter_name = "category"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        newest = Notification.objects.using(database()).order_by("-id")
        names = set(newest.values_list("category", flat=True)[:MAX_ROWS_READ]) | {self.value() or ""}
        return [(name, name) for name in sorted(names - {""})]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(category=self.value()) if self.value() else queryset


class NotificationCreatedFilter(CreatedFilter):
    """Filters notifications by when they were created."""

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        try:
            conditions = self.condition()
        except ValueError as exc:
            raise IncorrectLookupParameters(exc) from exc
        if begin := conditions.get("created_from"):
            queryset = queryset.filter(created_at__gte=begin)
        if end := conditions.get("created_until"):
            queryset = queryset.filter(created_at__lt=end)
        return queryset

    def narrow(self, request: HttpRequest, changelist: Any, rows: Any, slices_of: Any) -> tuple[Any, Any]:
        return rows, None if slices_of is None else slices_of.filter(**self._id_range())

    def _id_range(self) -> dict[str, UUID]:
        """Return conditions on ids, which hold the time of their creation, for the index that orders the list."""
        conditions, ids = self.condition(), {}
        if begin := conditions.get("created_from"):
            ids["id__gte"] = first_id(begin - ID_TOLERANCE)
        if end := conditions.get("created_until"):
            ids["id__lt"] = first_id(end + ID_TOLERANCE)
        return ids


#: The filters, in their order. That of the user, the core's, comes last here.
FILTERS = (NotificationCreatedFilter, CategoryFilter, NotificationUserFilter)


def first_id(moment: Any) -> UUID:
    """Return the smallest id that can be made at a time."""
    milliseconds = min(max(int(moment.timestamp() * 1000), 0), 2**48 - 1)
    return UUID(int=milliseconds << 80)
