"""The admin of notifications, which staff can view."""

from __future__ import annotations

from django.contrib import admin

from notifications.admin.mixins import OwnedMixin
from notifications.models import Notification


@admin.register(Notification)
class NotificationAdmin(OwnedMixin, admin.ModelAdmin):
    list_display = ("title", "user", "level", "category", "created_at", "read_at", "archived_at")
    list_filter = ("level", "category", "created_at")
    search_fields = ("=id", "title", "=key")
    ordering = ("-id",)
    show_full_result_count = False
    fields = (
        *("title", "body", "url", "user", "level", "category", "key", "job", "data"),
        *("created_at", "read_at", "archived_at", "seq", "raised", "id"),
    )
