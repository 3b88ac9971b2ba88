"""The actions of the list and the page of jobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from notifications import times
from notifications.admin import confirmation
from notifications.admin.mixins import ModelAdminBase, can_be_for_all
from notifications.db.transactions import database
from notifications.exceptions import TooManyJobs
from notifications.jobs.changing import applicable
from notifications.lazy_names import LateModule
from notifications.models import Job
from notifications.states import ACTIVE, CLAIMABLE

if TYPE_CHECKING:
    from notifications.jobs.transitions import manual
else:
    manual = LateModule("notifications.jobs.transitions.manual")


class JobActionsMixin(ModelAdminBase):
    """Adds the actions to an admin of jobs."""

    actions = ("cancel_jobs", "retry_jobs", "run_jobs_now", "reschedule_jobs")

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().response_action(request, *args, **kwargs)
        except ValidationError:
            text = _("No job was changed, because what was selected is no id of a job.")
            self.message_user(request, text, messages.ERROR)
            return None

    def change_all(self, request: HttpRequest, action: str) -> HttpResponse | None:
        """Refuse an action for all jobs that the filters find: they may be too many for a request."""
        text = _(
            "No job was changed. Select jobs of the page. All jobs that match are changed by manage.py notifications "
            "jobs."
        )
        self.message_user(request, text, messages.ERROR)
        return None

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may cancel and retry jobs, by the permission to change them."""
        return request.user.has_perm("notifications.change_job")

    @admin.action(description=_("Cancel selected jobs"), permissions=["operate"])
    @can_be_for_all
    def cancel_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> HttpResponse | None:
        became = manual.cancel(_ids("cancel", queryset), by=request.user.pk)
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
        return None

    @admin.action(description=_("Retry selected jobs"), permissions=["operate"])
    @can_be_for_all
    def retry_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> HttpResponse | None:
        before = list(applicable("retry", queryset).values_list("pk", "fence"))
        try:
            queued = manual.retry([id for id, fence in before], by=request.user.pk)
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
        return None

    @admin.action(description=_("Run selected jobs now"), permissions=["operate"])
    @can_be_for_all
    def run_jobs_now(self, request: HttpRequest, queryset: QuerySet[Job]) -> HttpResponse | None:
        started = manual.reschedule(_ids("run_now", queryset))
        self._log(request, started, "Run now.")
        if started:
            text = ngettext("%(count)d job waits no longer.", "%(count)d jobs wait no longer.", len(started))
            self.message_user(request, text % {"count": len(started)}, messages.SUCCESS)
        else:
            text = _("No job was changed, because none of them waits for a time.")
            self.message_user(request, text, messages.WARNING)
        return None

    @admin.action(description=_("Reschedule selected jobs…"), permissions=["operate"])
    @can_be_for_all
    def reschedule_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> HttpResponse | None:
        if not (ids := _ids("reschedule", queryset)):
            text = _("No job was changed, because none of them is queued.")
            self.message_user(request, text, messages.WARNING)
            return None
        form = confirmation.read_form(request)
        if not form.is_valid():
            return confirmation.ask(self, request, "reschedule", len(ids), form=form)
        run_at = form.cleaned_data["run_at"]
        changed = manual.reschedule(ids, run_at)
        self._log(request, changed, confirmation.LOG_TEXTS["reschedule"].format(run_at=run_at))
        when = times.format_exact(run_at)
        text = ngettext(
            "%(count)d job was rescheduled: %(time)s",
            "%(count)d jobs were rescheduled: %(time)s",
            len(changed),
        )
        self.message_user(request, text % {"count": len(changed), "time": when}, messages.SUCCESS)
        return None

    def _log(self, request: HttpRequest, ids: Iterable[UUID], text: str) -> None:
        for job in Job.objects.using(database()).filter(pk__in=list(ids)):
            self.log_change(request, job, text)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        job = kwargs.get("obj")
        if job is not None and self.has_operate_permission(request):
            context["offered_actions"] = _offered_actions(job)
        return super().render_change_form(request, context, *args, **kwargs)


def _ids(change: str, queryset: QuerySet[Job]) -> list[UUID]:
    return list(applicable(change, queryset).values_list("pk", flat=True))


def _offered_actions(job: Job) -> list[tuple[str, Any]]:
    offered = []
    if job.state == Job.State.QUEUED and job.due_at:
        offered.append(("run_jobs_now", _("Run this job now")))
    if job.state in CLAIMABLE:
        offered.append(("reschedule_jobs", _("Reschedule this job…")))
    if job.state in ACTIVE:
        offered.append(("cancel_jobs", _("Cancel this job")))
    elif job.can_retry:
        offered.append(("retry_jobs", _("Try this job again")))
    return offered


def _queued_since(before: Iterable[tuple[UUID, int]]) -> Iterable[UUID]:
    """Return those of these jobs that were queued again since, so that their fence has been raised."""
    fences = dict(before)
    rows = Job.objects.using(database()).filter(pk__in=fences).values_list("pk", "fence")
    return (id for id, fence in rows if fence > fences[id])
