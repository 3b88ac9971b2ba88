"""The admin of notifications: who was notified of what, and when it was read or archived."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from notifications.admin.filters import LevelFilter, NotificationUserFilter, ReadFilter
from notifications.admin.mixins import ExtensibleListMixin, OwnedMixin
from notifications.admin.paging import KeysetMixin
from notifications.admin.timelines import lines_of_events
from notifications.extension import hooks
from notifications.inbox.categories import load_categories
from notifications.inbox.timeline import read_timeline
from notifications.models import Notification


@admin.register(Notification)
class NotificationAdmin(ExtensibleListMixin, KeysetMixin, OwnedMixin, admin.ModelAdmin):
    """The list and the page of notifications, which staff cannot change."""

    list_display = ("title", "user", "level", "category", "created_at", "read_at", "archived_at")
    list_filter = (ReadFilter, LevelFilter, NotificationUserFilter)
    list_defer = ("body", "data")
    search_fields = ("=id", "title", "=key")
    ordering = ("-id",)
    sortable_by = ()
    fields = (
        *("title", "body", "url", "user", "level", "category_name", "key", "job", "sent_with", "data"),
        *("created_at", "read_at", "archived_at", "timeline", "seq", "raised", "id"),
    )

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Show the list, with the links of extensions above it."""
        links = [link for hook in hooks.list_links for link in hook(self, request)]
        return super().changelist_view(request, {"links": links, **(extra_context or {})})

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is not None:
            obj.viewer = request.user.pk  # the function that shows the timeline gets the notification only
        fields = super().get_fields(request, obj)
        return fields if hooks.origin_link else [name for name in fields if name != "sent_with"]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show the page of a notification, with the sections of extensions below its fields."""
        if (row := kwargs.get("obj")) is not None:
            sections = (hook(self, request, row) for hook in hooks.admin_section)
            context["sections"] = [section for section in sections if section]
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("category"))
    def category_name(self, row: Notification) -> str:
        """Return the name that users read, and the key if that is another text."""
        name = str(load_categories().get(row.category).name)
        if not row.category:
            return "-"
        return name if name == row.category else f"{name} ({row.category})"

    @admin.display(description=_("sent with"))
    def sent_with(self, row: Notification) -> str:
        links = (hook(self, row) for hook in hooks.origin_link)
        return next(filter(None, links), "-")

    @admin.display(description=_("what happened to it"))
    def timeline(self, row: Notification) -> str:
        return lines_of_events(read_timeline(row, viewer=row.viewer))
