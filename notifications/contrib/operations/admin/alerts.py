"""The admin of alerts, which staff can view."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from notifications.admin import LateModule, ReadOnlyMixin, list_url
from notifications.contrib.operations.models import Alert

if TYPE_CHECKING:
    from notifications.contrib.operations.alerts import evaluation, texts
else:
    evaluation = LateModule("notifications.contrib.operations.alerts.evaluation")
    texts = LateModule("notifications.contrib.operations.alerts.texts")


@admin.register(Alert)
class AlertAdmin(ReadOnlyMixin, admin.ModelAdmin):
    list_display = ("name", "text", "opened_at", "closed_at", "acknowledged_by")
    list_filter = ("kind", "opened_at")
    ordering = ("-id",)
    show_full_result_count = False
    actions = ("acknowledge_alerts",)
    fields = (
        "kind",
        "subject",
        "text",
        "opened_at",
        "seen_at",
        "closed_at",
        "acknowledged_at",
        "acknowledged_by",
    )

    def has_acknowledge_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("notifications_operations.change_alert")

    @admin.action(description=_("Acknowledge selected alerts"), permissions=["acknowledge"])
    def acknowledge_alerts(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        by = request.user.get_username()
        changed = [
            alert for alert in queryset[: texts.MAX_OPEN_ALERTS] if evaluation.acknowledge(alert.pk, by=by)
        ]
        for alert in changed:
            self.log_change(request, alert, "Acknowledged.")
        if not changed:
            text = _("No alert was acknowledged, because all of them are over or acknowledged already.")
            return self.message_user(request, text, messages.WARNING)
        text = ngettext(
            "%(count)d alert was acknowledged.", "%(count)d alerts were acknowledged.", len(changed)
        )
        self.message_user(request, text % {"count": len(changed)}, messages.SUCCESS)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        self._set_urls(request, changelist.result_list)
        return changelist

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # The functions that show the fields do not get the request.
        self._set_urls(request, [obj] if obj else [])
        return super().get_readonly_fields(request, obj)

    def _set_urls(self, request: HttpRequest, rows: Iterable[Any]) -> None:
        for row in rows:
            row.subject_url = texts.subject_url(row, partial(list_url, self, request))

    @admin.display(description=_("alert"), ordering="kind")
    def name(self, row: Any) -> str:
        """Return the kind and the subject, which may be broken after its dots and underscores only."""
        parts = re.split(r"(?<=[._])", str(row))
        return format_html_join(mark_safe("<wbr>"), "{}", ((part,) for part in parts))

    @admin.display(description=_("detail"))
    def text(self, row: Any) -> str:
        """Return the detail in the language of the page, with a link to what it is about."""
        text = texts.detail_of(row)
        return format_html('<a href="{}">{}</a>', row.subject_url, text) if row.subject_url else text
