"""The admin of files: what jobs have made, for whom, and until when it can be downloaded."""

from __future__ import annotations

from django.contrib import admin
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext_lazy as _

from notifications.admin import ReadOnlyMixin
from notifications.contrib.files.models import ResultFile


@admin.register(ResultFile)
class ResultFileAdmin(ReadOnlyMixin, admin.ModelAdmin):
    list_display = ("name", "user", "shown_size", "created_at", "expires_at", "job")
    search_fields = ("name",)
    ordering = ("-created_at", "-pk")
    show_full_result_count = False
    fields = ("name", "user", "shown_size", "content_type", "permission", "created_at", "expires_at", "job")

    @admin.display(description=_("size"), ordering="size")
    def shown_size(self, row: ResultFile) -> str:
        return filesizeformat(row.size)
