"""The admin of notifications: who was notified of what, and when it was read or archived."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from notifications.admin.filters import LevelFilter, ReadFilter
from notifications.admin.paging import OwnedMixin
from notifications.admin.timelines import lines_of_events
from notifications.inbox.categories import load_categories
from notifications.inbox.timeline import read_timeline
from notifications.models import Notification


@admin.register(Notification)
class NotificationAdmin(OwnedMixin, admin.ModelAdmin):
    """The list and the page of notifications, which staff cannot change."""

    list_display = ("title", "user", "level", "category", "created_at", "read_at", "archived_at")
    list_filter = (ReadFilter, LevelFilter, "user")
    list_defer = ("body", "data")
    search_fields = ("=id", "title", "=key")
    ordering = ("-id",)
    sortable_by = ()
    fields = (
        "title",
        "body",
        "url",
        "user",
        "level",
        "category_name",
        "key",
        "job",
        "data",
        "created_at",
        "read_at",
        "archived_at",
        "timeline",
        "seq",
        "raised",
        "id",
    )

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is not None:
            obj.viewer = request.user.pk  # the function that shows the timeline gets the notification only
        return super().get_fields(request, obj)

    @admin.display(description=_("category"))
    def category_name(self, row: Notification) -> str:
        """Return the name that users read, and the key if that is another text."""
        name = str(load_categories().name(row.category))
        if not row.category:
            return "-"
        return name if name == row.category else f"{name} ({row.category})"

    @admin.display(description=_("what happened to it"))
    def timeline(self, row: Notification) -> str:
        return lines_of_events(read_timeline(row, viewer=row.viewer))
