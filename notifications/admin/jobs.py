"""The admin of jobs, which staff can view, cancel and retry, but neither edit nor delete."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import formats
from django.utils.html import format_html, format_html_join
from django.utils.timezone import template_localtime
from django.utils.translation import gettext_lazy as _

from notifications import serializers, times
from notifications.admin import filters
from notifications.admin.job_actions import JobActionsMixin
from notifications.admin.job_details import JobDetailsMixin
from notifications.admin.live_jobs import LiveJobsMixin, live
from notifications.admin.mixins import NONE
from notifications.admin.paging import OwnedMixin
from notifications.admin.running_again import RunAgainMixin
from notifications.admin.timelines import set_last_errors, set_wait_reasons, wait_reason
from notifications.db.keyset import NEWEST_FIRST
from notifications.db.transactions import database
from notifications.extension import hooks
from notifications.jobs.claiming.executors import QUARANTINED
from notifications.jobs.claiming.waiting_reasons import WaitReason
from notifications.jobs.declaring.tasks import aliases_with_engines, has_engine
from notifications.jobs.listing import search_condition
from notifications.jobs.selection import JobFilter
from notifications.models import Job, Worker
from notifications.states import CLAIMABLE, describe_state, format_start
from notifications.templatetags.notifications_formats import breakable, duration, to_second


def _show_time(name: str) -> Any:
    """Return a column that shows a time of a job to the second."""
    shown = admin.display(description=Job._meta.get_field(name).verbose_name, ordering=name)
    return shown(lambda self, job: to_second(moment) if (moment := getattr(job, name)) else NONE)


@admin.register(Job)
class JobAdmin(
    JobActionsMixin,
    RunAgainMixin,
    JobDetailsMixin,
    LiveJobsMixin,
    OwnedMixin,
    admin.ModelAdmin,
):
    """The list and the page of jobs, with actions that cancel, retry and reschedule them."""

    list_display = (
        "title_and_task",
        "state_cell",
        "last_error",
        "took_cell",
        "queue_name",
        "user",
        "created",
    )
    list_display_links = None
    list_filter = filters.JOB_FILTERS
    list_defer = ("args", "kwargs", "result", "error")
    search_fields = ("=id", "title", "task_path")
    search_help_text = _("Words of the title or task, or the id.")
    keyset_order = NEWEST_FIRST
    ordering = ("-created_at", "-id")
    sortable_by = ("created",)
    #: What became of the job is above its timeline and output, and the others are below.
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("state_now", "progress_bar", "attempts_of", "took"),
                    "problem",
                    "result_text",
                    ("user", "notification", "batch_jobs"),
                )
            },
        ),
        (
            _("Call"),
            {
                "fields": (
                    ("title", "url"),
                    ("task_jobs", "tag_jobs"),
                    "arguments",
                    ("queue_jobs", "priority", "run_after", "expires", "backend"),
                    ("id", "trace_id"),
                )
            },
        ),
        (
            _("Times"),
            {
                "fields": (
                    ("created", "queued", "started", "finished"),
                    ("waited", "lost_at", "worker_now"),
                )
            },
        ),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Job], search_term: str
    ) -> tuple[Any, bool]:
        return queryset.filter(search_condition(search_term)), False

    def shows_all_jobs(self) -> bool:
        """Return whether the list without filters has all jobs: a subclass may show some of them only."""
        return type(self).get_queryset is JobAdmin.get_queryset

    def read_conditions(self, request: HttpRequest) -> JobFilter:
        """Return the conditions of all jobs that the list finds by its filters and search.

        Raises ValueError, whose text is for staff, if they are not all, because a class of a project shows some jobs
        only, or one of its filters is no condition of ``JobFilter``.
        """
        changelist = self.get_changelist_instance(request)
        if others := filters.other_parameters(changelist):
            text = _(
                "All jobs that match cannot be changed with the filter “%(name)s”. Select jobs of the page."
            )
            raise ValueError(text % {"name": others[0]})
        if not self.shows_all_jobs():
            raise ValueError(
                _(
                    "All jobs that match cannot be changed, because this list shows some jobs only. Select jobs."
                )
            )
        return filters.read_filter(changelist)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        set_last_errors(request, changelist.result_list)
        set_wait_reasons(changelist.result_list)
        filters_to_keep = {"preserved_filters": changelist.preserved_filters, "opts": self.opts}
        for job in changelist.result_list:
            job.page_url = add_preserved_filters(filters_to_keep, changelist.url_for_result(job))
        return changelist

    def get_list_display(self, request: HttpRequest) -> Any:
        columns = list(super().get_list_display(request))
        if aliases_with_engines():
            after = columns.index("queue_name") + 1
            columns.insert(after, "runs_on")
        return columns

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = list(super().get_fieldsets(request, obj))
        if aliases_with_engines():
            fieldsets.insert(1, (_("Engine"), {"fields": ("runs_on",)}))
        return fieldsets

    created, queued = _show_time("created_at"), _show_time("queued_at")
    started, finished = _show_time("started_at"), _show_time("finished_at")

    @admin.display(description=_("state"))
    def state_now(self, job: Job) -> str:
        """Return the state with its symbol."""
        return format_html('<span class="state" data-state="{}">{}</span>', job.state, self.state_text(job))

    def state_text(self, job: Job) -> str:
        reason = wait_reason(job)
        if reason is WaitReason.PAUSED:
            return _("Queued, its queue is paused")
        if reason is WaitReason.NO_WORKER and has_engine(job.backend):
            return _("Queued, waiting for %(engine)s") % {"engine": hooks.dispatch.label_of(job.backend)}
        if reason is WaitReason.NO_WORKER:
            return _("Queued, waiting for a worker")
        if reason is WaitReason.LIMITED:
            return _("Queued, waiting for a limit")
        if reason is WaitReason.SCHEDULED and not job.attempt:
            return _("Queued, not before %(time)s") % {"time": format_start(job.due_at)}
        if job.state == Job.State.SUCCEEDED and job.progress_message:
            return _("Finished")  # The message says what of it succeeded, such as "9 of 70 failed".
        return describe_state(job)

    @admin.display(description=_("job"))
    def title_and_task(self, job: Job) -> str:
        """Return a link to the page of the job, and the name of its task, with the whole path as its tooltip."""
        return format_html(
            '<a href="{}">{}</a><br><span class="quiet" title="{}">{}</span>',
            job.page_url,  # type: ignore[attr-defined]
            *(job.title, job.task_path, breakable(short_path(job.task_path))),
        )

    @admin.display(description=_("state"))
    def state_cell(self, job: Job) -> str:
        """Return the state, and how far the job is or where it stopped, or the last message of one that succeeded."""
        parts = []
        if job.attempt > 1 or (job.attempt and job.max_attempts > 1 and not job.done):
            words = {"attempt": job.attempt, "most": job.max_attempts}
            parts.append(_("attempt %(attempt)d of %(most)d") % words)
        is_succeeded = job.state == Job.State.SUCCEEDED
        if job.progress_current is not None and (not is_succeeded or job.progress_message):
            parts.append(job.progress_message if is_succeeded else self.progress(job))
        state = self.state_now(job)
        if parts:
            state = format_html('{}<br><span class="quiet">{}</span>', state, " · ".join(parts))
        return live("state", job.pk.hex, state)

    @admin.display(description=_("error"))
    def last_error(self, job: Job) -> str:
        """Return the last line of the traceback of a failed job, with a link to the whole, as far as it is shown."""
        error, link = getattr(job, "last_error_shown", None), ""
        if error:
            name = f"{self.admin_site.name}:notifications_job_change"
            url = f"{reverse(name, args=[job.pk])}#attempts-heading"
            link = format_html('<a href="{}" title="{}">{}</a>', url, error.location, error.text)
        return live("error", job.pk.hex, link)

    @admin.display(description=_("took"))
    def took(self, job: Job) -> str:
        """Return how long the last attempt took, or has taken up to now."""
        end = job.finished_at or (times.now() if job.state == Job.State.RUNNING else None)
        if job.started_at is None or job.state in CLAIMABLE or end is None:
            return NONE
        return duration(max(0.0, (end - job.started_at).total_seconds()))

    @admin.display(description=_("took"))
    def took_cell(self, job: Job) -> str:
        return live("took", job.pk.hex, self.took(job))

    @admin.display(description=_("waited"))
    def waited(self, job: Job) -> str:
        """Return how long the job waited before its last attempt, from when it was due."""
        due = max(filter(None, (job.queued_at, job.run_after)))
        return duration(max(0.0, (job.started_at - due).total_seconds())) if job.started_at else NONE

    @admin.display(description=_("batch"))
    def batch_jobs(self, job: Job) -> str:
        """Return links to the batch of the job, and to the jobs of a batch: all, and those that failed."""
        jobs = Job.objects.using(database())
        links = []
        if job.batch and (title := jobs.filter(pk=job.batch).values_list("title", flat=True).first()):
            links.append(
                (reverse(f"{self.admin_site.name}:notifications_job_change", args=[job.batch]), title)
            )
        if jobs.filter(batch=job.pk).exists():
            url = f"{reverse(f'{self.admin_site.name}:notifications_job_changelist')}?batch={job.pk}"
            links += [(url, _("All jobs of this batch")), (f"{url}&state__exact=failed", _("Failed jobs"))]
        return format_html_join(" · ", '<a href="{}">{}</a>', links) if links else NONE

    @admin.display(description=_("worker"))
    def worker_now(self, job: Job) -> str:
        """Return the worker of the last attempt, by its host as long as it is alive, with a link to its jobs."""
        if job.worker is None:
            return NONE
        row = Worker.objects.using(database()).filter(pk=job.worker).first()
        url = reverse(f"{self.admin_site.name}:notifications_job_changelist")
        text = f"{row.host} ({job.worker})" if row else str(job.worker)
        return format_html('<a href="{}?worker={}&amp;deliveries=shown">{}</a>', url, job.worker, text)

    @admin.display(description=_("runs on"))
    def runs_on(self, job: Job) -> str:
        if not has_engine(job.backend):
            return _("Built-in worker")
        label = hooks.dispatch.label_of(job.backend)
        is_quarantined = job.executor == QUARANTINED  # one at a time in a process of the engine
        return f"{label} ({job.get_executor_display()})" if is_quarantined else label

    @admin.display(description=_("expires at"))
    def expires(self, job: Job) -> str:
        """Return when a queued job fails that has not begun."""
        return (
            str(formats.date_format(template_localtime(job.expiry), "DATETIME_FORMAT"))
            if job.expiry
            else NONE
        )

    @admin.display(description=_("deadline"))
    def lost_at(self, job: Job) -> str:
        """Return when a running job is taken away from its worker."""
        if job.state != Job.State.RUNNING or job.worker is None or job.deadline is None:
            return NONE
        return str(formats.date_format(template_localtime(job.deadline), "DATETIME_FORMAT"))

    @admin.display(description=_("progress"))
    def progress(self, job: Job) -> str:
        if job.progress_current is None:
            return NONE
        total = "" if job.progress_total is None else f" / {job.progress_total}"
        return " · ".join(filter(None, (f"{job.progress_current}{total}", job.progress_message)))

    @admin.display(description=_("attempt"))
    def attempts_of(self, job: Job) -> str:
        return f"{job.attempt} / {job.max_attempts}"

    @admin.display(description=_("error"))
    def problem(self, job: Job) -> str:
        return (serializers.job_error(job) or {}).get("detail") or NONE


def short_path(path: str) -> str:
    """Return the name at the end of a dotted path, with that of its module."""
    return ".".join(path.split(".")[-2:])
