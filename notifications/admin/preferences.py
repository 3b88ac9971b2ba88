"""The admin of preferences: what users have chosen, which staff can view but not change."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from notifications.admin.mixins import OwnedMixin
from notifications.admin.notification_filters import NotificationUserFilter
from notifications.models import Preference


class ChannelFilter(admin.SimpleListFilter):
    """Filters preferences by their channel."""

    title = _("channel")
    parameter_name = "channel"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(Preference.Channel.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Preference]) -> QuerySet[Preference]:
        return queryset.filter(channel=self.value()) if self.value() else queryset


@admin.register(Preference)
class PreferenceAdmin(OwnedMixin, admin.ModelAdmin):
    list_display = ("user", "category", "channel", "choice", "changed_at")
    list_filter = (NotificationUserFilter, ChannelFilter)
    fields = ("user", "category", "channel", "choice", "changed_at")
    ordering = ("-id",)
    sortable_by = ()
    show_full_result_count = False
