"""The admin of notifications: who was notified of what, and when it was read or archived."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from notifications.admin import notification_filters
from notifications.admin.mixins import OwnedMixin
from notifications.admin.paging import IndexedFilter, KeysetChangeList, KeysetMixin
from notifications.admin.timelines import lines_of_events
from notifications.db.transactions import database
from notifications.extension import hooks
from notifications.models import Notification
from notifications.operations.matching import MAX_IDS_READ
from notifications.streams.categories import load_categories
from notifications.streams.timeline import read_timeline


@admin.register(Notification)
class NotificationAdmin(KeysetMixin, OwnedMixin, admin.ModelAdmin):
    list_display = ("title", "user", "level", "category", "created_at", "read_at", "archived_at")
    list_filter = (
        notification_filters.ReadFilter,
        notification_filters.LevelFilter,
        notification_filters.NotificationCreatedFilter,
        notification_filters.CategoryFilter,
        notification_filters.NotificationUserFilter,
    )
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

    def get_list_filter(self, request: HttpRequest) -> Any:
        found = [each for hook in hooks.list_filters for each in hook(self.model)]
        return [*super().get_list_filter(request), *found]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
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

    def narrow(self, request: HttpRequest, changelist: KeysetChangeList) -> tuple[Any, Any]:
        """Return the rows as an index yields them, and the slices to read: of an indexed filter, a user, or a time."""
        rows, slices_of = super().narrow(request, changelist)
        if slices_of is None:
            return rows, None
        chosen = {spec.parameter_name: spec for spec in changelist.filter_specs if spec.value()}
        if user := chosen.pop("user", None):
            ids = _read_ids(user.user_key())
            if ids is not None:
                return rows.filter(pk__in=ids), None
        for spec in chosen.values():
            if isinstance(spec, IndexedFilter):
                slices_of = spec.queryset(request, slices_of)
                if set(changelist.get_filters_params()) == {spec.parameter_name} and not changelist.query:
                    return rows, None
        for spec in changelist.filter_specs:
            if isinstance(spec, notification_filters.NotificationCreatedFilter):
                slices_of = slices_of.filter(**spec.id_range())
        return rows, slices_of

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
        return lines_of_events(read_timeline(row))


def _read_ids(user: Any) -> list[Any] | None:
    """Return the ids of the notifications of a user (key), None if they are more than ``MAX_IDS_READ``."""
    rows = Notification.objects.using(database()).filter(user_id=user).order_by("user_id", "seq")
    ids = list(rows.values_list("pk", flat=True)[: MAX_IDS_READ + 1])
    return ids if len(ids) <= MAX_IDS_READ else None
