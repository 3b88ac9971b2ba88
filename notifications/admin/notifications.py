"""The admin of notifications: who was notified of what, and when it was read or archived."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from notifications.admin import notification_filters
from notifications.admin.broadcasts.composing import SEND_PERMISSION
from notifications.admin.deliveries import DeliveriesMixin
from notifications.admin.mixins import OwnedMixin
from notifications.admin.paging import KeysetChangeList, KeysetMixin
from notifications.admin.timelines import lines_of_events
from notifications.db.transactions import database
from notifications.deliveries.timeline import timeline
from notifications.models import Broadcast, Notification
from notifications.operations.matching import MAX_IDS_READ
from notifications.streams.categories import load_categories


@admin.register(Notification)
class NotificationAdmin(DeliveriesMixin, KeysetMixin, OwnedMixin, admin.ModelAdmin):
    list_display = ("title", "user", "level", "category", "created_at", "read_at", "archived_at")
    list_filter = (
        notification_filters.ReadFilter,
        notification_filters.LevelFilter,
        notification_filters.NotificationCreatedFilter,
        notification_filters.CategoryFilter,
        notification_filters.BroadcastFilter,
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
        """Show the list, with a link to the composer for those who may send."""
        url = ""
        if request.user.has_perm(SEND_PERMISSION) and self.admin_site.is_registered(Broadcast):
            url = reverse(f"{self.admin_site.name}:notifications_broadcast_add")
        return super().changelist_view(request, {"compose_url": url, **(extra_context or {})})

    def narrow(self, request: HttpRequest, changelist: KeysetChangeList) -> tuple[Any, Any]:
        """Return the rows as an index yields them, and the slices to read: of a broadcast, a user, or a time."""
        rows, slices_of = super().narrow(request, changelist)
        if slices_of is None:
            return rows, None
        chosen = {spec.parameter_name: spec for spec in changelist.filter_specs if spec.value()}
        if user := chosen.pop("user", None):
            ids = _read_ids(user.user_key())
            if ids is not None:
                return rows.filter(pk__in=ids), None
        if broadcast := chosen.pop("broadcast", None):
            slices_of = slices_of.filter(broadcast=UUID(broadcast.value()))
            if set(changelist.get_filters_params()) == {"broadcast"} and not changelist.query:
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
        if row.broadcast is None or not self.admin_site.is_registered(Broadcast):
            return "-"
        url = reverse(f"{self.admin_site.name}:notifications_broadcast_change", args=[row.broadcast])
        return format_html('<a href="{}">{}</a>', url, _("A broadcast"))

    @admin.display(description=_("what happened to it"))
    def timeline(self, row: Notification) -> str:
        return lines_of_events(timeline(row))


def _read_ids(user: Any) -> list[Any] | None:
    """Return the ids of the notifications of a user (key), None if they are more than ``MAX_IDS_READ``."""
    rows = Notification.objects.using(database()).filter(user_id=user).order_by("user_id", "seq")
    ids = list(rows.values_list("pk", flat=True)[: MAX_IDS_READ + 1])
    return ids if len(ids) <= MAX_IDS_READ else None
