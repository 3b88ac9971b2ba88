"""The admin of notifications, which staff can view."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from notifications.admin.mixins import OwnedMixin
from notifications.admin.paging import KeysetMixin
from notifications.db.transactions import database
from notifications.models import Notification

#: The newest notifications that the choices of a filter come from.
MAX_ROWS_READ = 300


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


@admin.register(Notification)
class NotificationAdmin(KeysetMixin, OwnedMixin, admin.ModelAdmin):
    list_display = ("title", "user", "level", "category", "created_at", "read_at", "archived_at")
    list_filter = ("level", CategoryFilter, "created_at")
    list_defer = ("body", "data")
    search_fields = ("=id", "title", "=key")
    ordering = ("-id",)
    sortable_by = ()
    fields = (
        *("title", "body", "url", "user", "level", "category", "key", "job", "data"),
        *("created_at", "read_at", "archived_at", "seq", "raised", "id"),
    )
