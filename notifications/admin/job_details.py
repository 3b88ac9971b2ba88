"""The page of one job: its arguments, result, trace, and the notification that came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import formats
from django.utils.html import format_html, format_html_join
from django.utils.timezone import template_localtime
from django.utils.translation import gettext_lazy as _

from notifications.admin.mixins import NONE, ModelAdminBase
from notifications.admin.timelines import read_attempts
from notifications.extension import hooks
from notifications.jobs.arguments import describe_arguments, describe_result
from notifications.jobs.step_list import read_steps
from notifications.jobs.tags import read_tags
from notifications.jobs.timeline import read_job_timeline
from notifications.jobs.viewing import can_view
from notifications.lazy_names import LateModule
from notifications.models import Job, Notification

if TYPE_CHECKING:
    from notifications.http import page_views
else:
    page_views = LateModule("notifications.http.page_views")

#: In place of a value. Where the list is narrow, its cell is hidden, and so is a field of the page.
#: Characters of a result that are shown.
MAX_RESULT_CHARS = 5_000


class JobDetailsMixin(ModelAdminBase):
    """Adds what the page of a job shows to an admin of jobs."""

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        job, attempts = kwargs.get("obj"), None
        if job is not None and can_view(request.user, "attempts"):
            with_tracebacks = can_view(request.user, "tracebacks")
            context["attempts"] = attempts = read_attempts(job, with_tracebacks=with_tracebacks)
        if job is not None:
            user = request.user.pk
            shows_results = can_view(request.user, "arguments")
            steps = read_steps(job, with_results=shows_results, reader=user)
            failed = attempts.newest[::-1] if attempts else []
            context["timeline"] = read_job_timeline(job, steps, failed, None, viewer=user)
            context["shows_results"] = shows_results
            shown = [section for section in hooks.job_sections if section.admin_template]
            context["sections"] = {section.name: section.admin_template for section in shown}
            for section in shown:
                context |= section.admin_context(job, request)
        return super().render_change_form(request, context, *args, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # The permission is the request's, and the functions that show the fields get the job only.
        if obj is not None:
            obj.has_shown_arguments = can_view(request.user, "arguments")
            obj.has_shown_notification = request.user.has_perm("notifications.view_notification")
        return super().get_readonly_fields(request, obj)

    @admin.display(description=_("progress"))
    def progress_bar(self, job: Job) -> str:
        """Return how far the job is, with a bar while it is active."""
        text: str = self.progress(job)  # type: ignore[attr-defined]
        if job.done or not job.progress_total:
            return text
        bar = '<progress max="{}" value="{}" aria-label="{}"></progress> {}'
        return format_html(bar, job.progress_total, job.progress_current or 0, _("Progress"), text)

    @admin.display(description=_("task"))
    def task_jobs(self, job: Job) -> str:
        """Return the path of the task, with a link to its jobs."""
        return self._jobs_link(job, "task_path")

    @admin.display(description=_("queue"))
    def queue_jobs(self, job: Job) -> str:
        """Return the name of the queue, with a link to its jobs."""
        return self._jobs_link(job, "queue_name")

    @admin.display(description=_("tags"))
    def tag_jobs(self, job: Job) -> str:
        """Return the tags, each with a link to the jobs that have it."""
        url = reverse(f"{self.admin_site.name}:notifications_job_changelist")
        links = ((url, urlencode({"tag": tag}), tag) for tag in read_tags(job.pk))
        return format_html_join(", ", '<a href="{}?{}">{}</a>', links) or NONE

    def _jobs_link(self, job: Job, name: str) -> str:
        value = getattr(job, name)
        url = reverse(f"{self.admin_site.name}:notifications_job_changelist")
        return format_html('<a href="{}?{}">{}</a>', url, urlencode({name: value}), value)

    @admin.display(description=_("arguments"))
    def arguments(self, job: Job) -> str:
        """Return the arguments without secrets, or their types only if the user may not view them."""
        text = describe_arguments(job, with_values=getattr(job, "has_shown_arguments", False))
        return format_html("<pre>{}</pre>", text) if text != "-" else NONE

    @admin.display(description=_("result"))
    def result_text(self, job: Job) -> str:
        """Return the result without secrets, if the user may view arguments: it may hold what they hold."""
        if job.result is None:
            return NONE
        if not getattr(job, "has_shown_arguments", False):
            return _("Shown with the permission to view the arguments of jobs.")
        return format_html("<pre>{}</pre>", describe_result(job, MAX_RESULT_CHARS))

    @admin.display(description=_("trace id"))
    def trace_id(self, job: Job) -> str:
        """Return the id in the W3C trace header of the request that enqueued the job."""
        parts = job.trace.partition("\n")[0].split("-")
        return parts[1] if len(parts) == 4 else NONE

    @admin.display(description=_("notification"))
    def notification(self, job: Job) -> str:
        """Return the newest notification of the end of the job, and when it was read."""
        if job.user_id is None:
            return _("None: the job has no owner.")
        if not getattr(job, "has_shown_notification", False):
            return _("Shown with the permission to view notifications.")
        if job.finished_at is None:
            return NONE
        found = page_views.find_end(job)
        if found is None:
            return NONE
        read = _("not read")
        if found.read_at:
            moment = formats.date_format(template_localtime(found.read_at), "DATETIME_FORMAT")
            read = _("read %(time)s") % {"time": moment}
        if not self.admin_site.is_registered(Notification):
            return f"{found.title}, {read}"
        name = f"{self.admin_site.name}:notifications_notification_change"
        return format_html('<a href="{}">{}</a>, {}', reverse(name, args=[found.pk]), found.title, read)
