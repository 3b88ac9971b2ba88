"""Jobs and notifications for staff: to be looked at, never edited or deleted by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.db import InterfaceError, OperationalError
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from notifications import serializers
from notifications.db.transactions import database
from notifications.exceptions import TooManyJobs
from notifications.jobs.claiming.stranded import unserved_jobs
from notifications.jobs.transitions import manual
from notifications.models import Attempt, Job, Notification
from notifications.problems import log_database_error


class ReadOnly:
    """Rows that only the app writes, read from where it writes them: a replica may be late."""

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).using(database())  # type: ignore[misc]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class Owned(ReadOnly):
    """Rows of people, who may be in another database: they are never joined, and read from where they are."""

    list_select_related = ()  # False would join what stands in list_display

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)  # type: ignore[misc]
        _find_owners(changelist.result_list)
        return changelist

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        row = super().get_object(request, object_id, from_field)  # type: ignore[misc]
        _find_owners([row] if row else [])
        return row


def _find_owners(rows: Iterable[Any]) -> None:
    people = get_user_model()._base_manager.in_bulk({row.user_id for row in rows} - {None})
    for row in rows:
        row._meta.get_field("user").set_cached_value(row, people.get(row.user_id))


def says_when_busy(action: Callable[..., None]) -> Callable[..., None]:
    """Let an action say that the database is away, or busy, instead of an error page."""

    @wraps(action)
    def wrapped(self: Any, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        try:
            action(self, request, queryset)
        except (OperationalError, InterfaceError) as exc:
            log_database_error(exc)
            words = _("The database cannot take this now. Some may be done already: look, and try again.")
            self.message_user(request, words, messages.ERROR)

    return wrapped


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
class JobAdmin(Owned, admin.ModelAdmin):
    list_display = (
        "title",
        "user",
        "state_now",
        "progress",
        "attempts_of",
        "queue_name",
        "created_at",
        "finished_at",
    )
    list_filter = ("state", "queue_name", "created_at")
    search_fields = ("=id", "title", "task_path")
    ordering = ("-id",)
    show_full_result_count = False
    inlines = (AttemptInline,)
    actions = ("cancel_jobs", "retry_jobs")
    fieldsets = (
        (None, {"fields": ("title", "user", "url", "state_now", "progress", "attempts_of", "problem")}),
        (
            _("Asked"),
            {"fields": ("task_path", "arguments", "queue_name", "priority", "run_after", "backend", "id")},
        ),
        (
            _("Times"),
            {"fields": ("created_at", "queued_at", "started_at", "finished_at", "deadline", "worker")},
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        in_vain = unserved_jobs().filter(pk=OuterRef("pk"))
        return super().get_queryset(request).annotate(waits_in_vain=Exists(in_vain))

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether the user may cancel jobs and have them tried again: the permission to change them."""
        return request.user.has_perm("notifications.change_job")

    @admin.action(description=_("Cancel selected jobs"), permissions=["operate"])
    @says_when_busy
    def cancel_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        active = queryset.filter(state__in=manual.ACTIVE_STATES)
        became = manual.cancel(active.values_list("pk", flat=True), by=request.user.pk)
        self._log(request, became, "Cancelled.")
        cancelled = sum(what == "cancelled" for what in became.values())
        asked = len(became) - cancelled
        if cancelled:
            words = ngettext("%(count)d job was cancelled.", "%(count)d jobs were cancelled.", cancelled)
            self.message_user(request, words % {"count": cancelled}, messages.SUCCESS)
        if asked:
            words = ngettext(
                "%(count)d running job is asked to end.", "%(count)d running jobs are asked to end.", asked
            )
            self.message_user(request, words % {"count": asked}, messages.SUCCESS)
        if not became:
            words = _("None of these jobs is queued or running, so none was cancelled.")
            self.message_user(request, words, messages.WARNING)

    @admin.action(description=_("Try selected jobs again"), permissions=["operate"])
    @says_when_busy
    def retry_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        before = list(queryset.filter(state__in=manual.RETRYABLE_STATES).values_list("pk", "fence"))
        try:
            queued = manual.retry([id for id, fence in before])
        except TooManyJobs as exc:
            queued = list(_queued_since(before))
            self.message_user(request, str(exc), messages.ERROR)
        self._log(request, queued, "Queued again.")
        if queued:
            words = ngettext(
                "%(count)d job is queued again.", "%(count)d jobs are queued again.", len(queued)
            )
            self.message_user(request, words % {"count": len(queued)}, messages.SUCCESS)
        elif not before:
            words = _("None of these jobs has failed or was cancelled, so none is tried again.")
            self.message_user(request, words, messages.WARNING)

    def _log(self, request: HttpRequest, ids: Iterable[UUID], words: str) -> None:
        for job in Job.objects.using(database()).filter(pk__in=list(ids)):
            self.log_change(request, job, words)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        job = kwargs.get("obj")
        if job is not None and self.has_operate_permission(request):
            again = "retry_jobs" if job.state in manual.RETRYABLE_STATES else None
            context["offered_action"] = "cancel_jobs" if job.state in manual.ACTIVE_STATES else again
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("state"), ordering="state")
    def state_now(self, job: Job) -> str:
        return _("waiting for a worker") if job.waits_in_vain else job.get_state_display()  # type: ignore[attr-defined]

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
        return (serializers.job_error(job) or {}).get("detail") or "-"

    @admin.display(description=_("arguments"))
    def arguments(self, job: Job) -> str:
        """The shape of the arguments: their values may be anybody's secrets."""
        try:
            args, kwargs = json.loads(job.args), serializers.decode_object(job.kwargs)
        except (ValueError, RecursionError):
            return _("damaged: they are not JSON")
        positional = [type(value).__name__ for value in args]
        named = [f"{name}={type(value).__name__}" for name, value in kwargs.items()]
        return f"({', '.join(positional + named)})"


def _queued_since(before: Iterable[tuple[UUID, int]]) -> Iterable[UUID]:
    """Those of these jobs that were queued again since: their fence has been raised."""
    fences = dict(before)
    rows = Job.objects.using(database()).filter(pk__in=fences).values_list("pk", "fence")
    return (id for id, fence in rows if fence > fences[id])


@admin.register(Notification)
class NotificationAdmin(Owned, admin.ModelAdmin):
    list_display = ("title", "user", "level", "category", "created_at", "read_at", "archived_at")
    list_filter = ("level", "category", "created_at")
    search_fields = ("=id", "title", "=key")
    ordering = ("-id",)
    show_full_result_count = False
    fields = (
        *("title", "body", "url", "user", "level", "category", "key", "job", "data"),
        *("created_at", "read_at", "archived_at", "seq", "raised", "id"),
    )
