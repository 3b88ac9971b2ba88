"""The admin of jobs and notifications, which staff can view but neither edit nor delete."""

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


class ReadOnlyMixin:
    """Makes an admin read-only. Reads the database that the app writes, because a replica may lag."""

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).using(database())  # type: ignore[misc]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class OwnedMixin(ReadOnlyMixin):
    """Reads the users of the rows separately, because they may be in another database, which cannot be joined."""

    list_select_related = ()  # False would join the foreign keys in list_display

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)  # type: ignore[misc]
        _set_users(changelist.result_list)
        return changelist

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        row = super().get_object(request, object_id, from_field)  # type: ignore[misc]
        _set_users([row] if row else [])
        return row


def _set_users(rows: Iterable[Any]) -> None:
    users = get_user_model()._base_manager.in_bulk({row.user_id for row in rows} - {None})
    for row in rows:
        row._meta.get_field("user").set_cached_value(row, users.get(row.user_id))


def reports_database_errors(action: Callable[..., None]) -> Callable[..., None]:
    """Decorate an action to show a message, instead of an error page, when the database is unavailable or busy."""

    @wraps(action)
    def wrapped(self: Any, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        try:
            action(self, request, queryset)
        except (OperationalError, InterfaceError) as exc:
            log_database_error(exc)
            text = _(
                "The database is unavailable. Some jobs may be changed already. Check them and try again."
            )
            self.message_user(request, text, messages.ERROR)

    return wrapped


class AttemptInline(ReadOnlyMixin, admin.TabularInline):
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
class JobAdmin(OwnedMixin, admin.ModelAdmin):
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
            _("Call"),
            {"fields": ("task_path", "arguments", "queue_name", "priority", "run_after", "backend", "id")},
        ),
        (
            _("Times"),
            {"fields": ("created_at", "queued_at", "started_at", "finished_at", "deadline", "worker")},
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        unserved = unserved_jobs().filter(pk=OuterRef("pk"))
        return super().get_queryset(request).annotate(is_unserved=Exists(unserved))

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may cancel and retry jobs, by the permission to change them."""
        return request.user.has_perm("notifications.change_job")

    @admin.action(description=_("Cancel selected jobs"), permissions=["operate"])
    @reports_database_errors
    def cancel_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        active = queryset.filter(state__in=manual.ACTIVE_STATES)
        became = manual.cancel(active.values_list("pk", flat=True), by=request.user.pk)
        self._log(request, became, "Cancelled.")
        cancelled = sum(what == "cancelled" for what in became.values())
        asked = len(became) - cancelled
        if cancelled:
            text = ngettext("%(count)d job was cancelled.", "%(count)d jobs were cancelled.", cancelled)
            self.message_user(request, text % {"count": cancelled}, messages.SUCCESS)
        if asked:
            text = ngettext(
                "Requested cancellation of %(count)d running job.",
                "Requested cancellation of %(count)d running jobs.",
                asked,
            )
            self.message_user(request, text % {"count": asked}, messages.SUCCESS)
        if not became:
            text = _("No job was cancelled, because none of them is queued or running.")
            self.message_user(request, text, messages.WARNING)

    @admin.action(description=_("Retry selected jobs"), permissions=["operate"])
    @reports_database_errors
    def retry_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        before = list(queryset.filter(state__in=manual.RETRYABLE_STATES).values_list("pk", "fence"))
        try:
            queued = manual.retry([id for id, fence in before])
        except TooManyJobs as exc:
            queued = list(_queued_since(before))
            self.message_user(request, str(exc), messages.ERROR)
        self._log(request, queued, "Queued again.")
        if queued:
            text = ngettext(
                "%(count)d job was queued again.", "%(count)d jobs were queued again.", len(queued)
            )
            self.message_user(request, text % {"count": len(queued)}, messages.SUCCESS)
        elif not before:
            text = _("No job was queued again, because none of them has failed or was cancelled.")
            self.message_user(request, text, messages.WARNING)

    def _log(self, request: HttpRequest, ids: Iterable[UUID], text: str) -> None:
        for job in Job.objects.using(database()).filter(pk__in=list(ids)):
            self.log_change(request, job, text)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        job = kwargs.get("obj")
        if job is not None and self.has_operate_permission(request):
            again = "retry_jobs" if manual.can_retry(job) else None
            context["offered_action"] = "cancel_jobs" if job.state in manual.ACTIVE_STATES else again
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("state"), ordering="state")
    def state_now(self, job: Job) -> str:
        return _("waiting for a worker") if job.is_unserved else job.get_state_display()  # type: ignore[attr-defined]

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
        """Return the types of the arguments. Their values may be secrets."""
        try:
            args, kwargs = json.loads(job.args), serializers.decode_object(job.kwargs)
        except (ValueError, RecursionError):
            return _("Damaged: not JSON")
        positional = [type(value).__name__ for value in args]
        named = [f"{name}={type(value).__name__}" for name, value in kwargs.items()]
        return f"({', '.join(positional + named)})"


def _queued_since(before: Iterable[tuple[UUID, int]]) -> Iterable[UUID]:
    """Return those of these jobs that were queued again since, so that their fence has been raised."""
    fences = dict(before)
    rows = Job.objects.using(database()).filter(pk__in=fences).values_list("pk", "fence")
    return (id for id, fence in rows if fence > fences[id])


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
