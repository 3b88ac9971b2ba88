"""The filters beside the list of notifications. Their choices never come from a whole table."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from notifications.admin.filters import UserFilter
from notifications.contrib.operations.admin.time_filters import CreatedFilter
from notifications.contrib.operations.matching import MAX_IDS_READ
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


class NotificationUserFilter(UserFilter):
    """Filters notifications by the name of their user. Those of one with few are looked up by their ids."""

    def narrow(self, request: HttpRequest, changelist: Any, rows: Any, slices_of: Any) -> tuple[Any, Any]:
        if slices_of is None or not self.value() or (ids := _read_ids(self.user_key())) is None:
            return rows, slices_of
        return rows.filter(pk__in=ids), None


#: The filters, in their order.
FILTERS = (NotificationCreatedFilter, CategoryFilter, NotificationUserFilter)


def _read_ids(user: Any) -> list[Any] | None:
    """Return the ids of the notifications of a user (key), None if they are more than ``MAX_IDS_READ``."""
    rows = Notification.objects.using(database()).filter(user_id=user).order_by("user_id", "seq")
    ids = list(rows.values_list("pk", flat=True)[: MAX_IDS_READ + 1])
    return ids if len(ids) <= MAX_IDS_READ else None


def first_id(moment: Any) -> UUID:
    """Return the smallest id that can be made at a time."""
    milliseconds = min(max(int(moment.timestamp() * 1000), 0), 2**48 - 1)
    return UUID(int=milliseconds << 80)
