"""Jobs and notifications for staff: to be looked at, never edited or deleted by hand."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from notifications.models import Attempt, Job, Notification


class ReadOnly:
    """Rows that only the app writes."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class AttemptInline(ReadOnly, admin.TabularInline):
    model = Attempt
    fields = ("number", "started_at", "ended_at", "outcome", "exception_class_path", "trace")
    readonly_fields = ("trace",)
    ordering = ("number",)
    extra = 0
    verbose_name_plural = _("attempts that did not succeed")

    @admin.display(description=_("traceback"))
    def trace(self, attempt: Attempt) -> str:
        return format_html("<pre>{}</pre>", attempt.traceback) if attempt.traceback else "-"


@admin.register(Job)
class JobAdmin(ReadOnly, admin.ModelAdmin):
    list_display = (
        "title",
        "user",
        "state",
        "progress",
        "attempts_of",
        "queue_name",
        "created_at",
        "finished_at",
    )
    list_filter = ("state", "queue_name", "created_at")
    list_select_related = ("user",)
    search_fields = ("=id", "title", "task_path")
    ordering = ("-id",)
    show_full_result_count = False
    inlines = (AttemptInline,)
    fieldsets = (
        (None, {"fields": ("title", "user", "url", "state", "progress", "attempts_of", "problem")}),
        (
            _("Asked"),
            {"fields": ("task_path", "arguments", "queue_name", "priority", "run_after", "backend", "id")},
        ),
        (
            _("Times"),
            {"fields": ("created_at", "queued_at", "started_at", "finished_at", "deadline", "worker")},
        ),
    )

    @admin.display(description=_("progress"))
    def progress(self, job: Job) -> str:
        if job.progress_current is None:
            return "-"
        total = "" if job.progress_total is None else f" / {job.progress_total}"
        return f"{job.progress_current}{total} {job.progress_message}".strip()

    @admin.display(description=_("attempt"))
    def attempts_of(self, job: Job) -> str:
        return f"{job.attempt} / {job.max_attempts}"

    @admin.display(description=_("error"))
    def problem(self, job: Job) -> str:
        return json.loads(job.error)["detail"] if job.error else "-"

    @admin.display(description=_("arguments"))
    def arguments(self, job: Job) -> str:
        """The shape of the arguments: their values may be anybody's secrets."""
        positional = [type(value).__name__ for value in json.loads(job.args)]
        named = [f"{name}={type(value).__name__}" for name, value in json.loads(job.kwargs).items()]
        return f"({', '.join(positional + named)})"


@admin.register(Notification)
class NotificationAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("title", "user", "level", "category", "created_at", "read_at", "archived_at")
    list_filter = ("level", "category", "created_at")
    list_select_related = ("user",)
    search_fields = ("=id", "title", "=key")
    ordering = ("-id",)
    show_full_result_count = False
    fields = (
        *("title", "body", "url", "user", "level", "category", "key", "job", "data"),
        *("created_at", "read_at", "archived_at", "seq", "raised", "id"),
    )
