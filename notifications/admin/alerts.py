"""The admin of alerts, which staff can view."""

from __future__ import annotations

from django.contrib import admin

from notifications.admin.mixins import ReadOnlyMixin
from notifications.models import Alert


@admin.register(Alert)
class AlertAdmin(ReadOnlyMixin, admin.ModelAdmin):
    list_display = ("kind", "subject", "detail", "opened_at", "closed_at")
    list_filter = ("kind", "opened_at")
    ordering = ("-id",)
    show_full_result_count = False
    fields = ("kind", "subject", "detail", "opened_at", "seen_at", "closed_at")
