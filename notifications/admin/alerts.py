"""The admin of alerts, which staff can view."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from notifications.admin.mixins import ReadOnlyMixin
from notifications.models import Alert
from notifications.operations.alerts.texts import detail_of


@admin.register(Alert)
class AlertAdmin(ReadOnlyMixin, admin.ModelAdmin):
    list_display = ("kind", "subject", "text", "opened_at", "closed_at")
    list_filter = ("kind", "opened_at")
    ordering = ("-id",)
    show_full_result_count = False
    fields = ("kind", "subject", "text", "opened_at", "seen_at", "closed_at")

    @admin.display(description=_("detail"))
    def text(self, row: Alert) -> str:
        """Return the detail in the language of the page."""
        return detail_of(row)
