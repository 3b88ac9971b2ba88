"""Running a job again with other arguments: a form of its task's parameters, which enqueues a new job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import translation
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from notifications.admin.arguments_form import ArgumentsForm
from notifications.admin.mixins import ModelAdminBase, page_context
from notifications.compat import InvalidTask, signature_of
from notifications.db.transactions import database
from notifications.exceptions import TooManyJobs
from notifications.jobs.declaring.own_tasks import is_own_task
from notifications.jobs.declaring.tasks import stores_jobs, with_options
from notifications.jobs.results import find_task
from notifications.jobs.viewing import can_view
from notifications.models import Job

#: What the idempotency keys of jobs begin with that were run again; the id of the earlier job follows.
KEY_PREFIX = "again:"


class CannotRunAgain(Exception):
    """A job cannot be run again here. The text, in the active language, says why."""


def find_origin(job: Job) -> UUID | None:
    """Return the id of the job that a job runs again with other arguments, None if it runs none again."""
    if job.idempotency_key.startswith(KEY_PREFIX):
        with suppress(ValueError):
            return UUID(job.idempotency_key.removeprefix(KEY_PREFIX)[:32])
    return None


class RunAgainMixin(ModelAdminBase):
    """Adds the form to an admin of jobs."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.run_again_view)
        return [path("<path:object_id>/run/", view, name="notifications_job_run"), *super().get_urls()]

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may run jobs with any arguments, and view those that a job had."""
        return request.user.has_perm("notifications.add_job") and can_view(request.user, "arguments")

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        job = kwargs.get("obj")
        if job is not None and self.has_run_permission(request) and _can_have_form(job):
            context["run_url"] = reverse(
                f"{self.admin_site.name}:notifications_job_run", args=[quote(job.pk)]
            )
        return super().render_change_form(request, context, *args, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = list(super().get_fieldsets(request, obj))
        if obj is not None and find_origin(obj):
            name, options = fieldsets[0]
            fieldsets[0] = (name, options | {"fields": (*options["fields"], "origin")})
        return fieldsets

    @admin.display(description=_lazy("run again from"))
    def origin(self, job: Job) -> str:
        """Return a link to the job that was run again with other arguments."""
        id = find_origin(job)
        url = reverse(f"{self.admin_site.name}:notifications_job_change", args=[quote(id)])
        return format_html('<a href="{}">{}</a>', url, id)

    def run_again_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the form, or enqueue a new job with the owner, the title and the link of an earlier one."""
        if not self.has_view_permission(request) or not self.has_run_permission(request):
            raise PermissionDenied
        job = self.get_object(request, unquote(object_id))
        if job is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        back_url = reverse(f"{self.admin_site.name}:notifications_job_change", args=[quote(job.pk)])
        try:
            if not _can_have_form(job):
                raise CannotRunAgain(
                    _("Only jobs of tasks of the project are run again with other arguments.")
                )
            task = _find_task(job)
        except CannotRunAgain as exc:
            self.message_user(request, str(exc), messages.ERROR)
            return HttpResponseRedirect(back_url)
        form = ArgumentsForm(task, job, data=request.POST if request.method == "POST" else None)
        if form.is_valid() and (response := self._run_again(request, form, task, job)):
            return response
        context = {
            **page_context(self, request),
            "title": _("Run “%(job)s” again with other arguments") % {"job": job.title},
            "form": form,
            "job": job,
            "back_url": back_url,
            "owner": job.user,
        }
        return TemplateResponse(request, "admin/notifications/job/run_again.html", context)

    def _run_again(
        self, request: HttpRequest, form: ArgumentsForm, task: Any, job: Job
    ) -> HttpResponse | None:
        try:
            # Job.language is that of its owner, and the one of this page that of staff.
            with translation.override(job.language or None):
                id = _enqueue(task, job, form.args, form.kwargs, form.cleaned_data["token"])
        except (TypeError, ValueError, InvalidTask, ImproperlyConfigured, TooManyJobs) as exc:
            form.add_error(None, str(exc))
            return None
        except (
            RecursionError
        ):  # the limit of enqueue() is lower than that of json.loads(), which the field uses
            form.add_error(None, _("A value is nested too deeply."))
            return None
        new = Job.objects.using(database()).get(pk=id)
        self.log_addition(request, new, f"Run again with other arguments, as {job.pk} before.")
        url = reverse(f"{self.admin_site.name}:notifications_job_change", args=[quote(id)])
        text = format_html(
            _('A new job runs with these arguments, as <a href="{}">{}</a> before.'), url, new.title
        )
        self.message_user(request, text, messages.SUCCESS)
        return HttpResponseRedirect(url)


def _can_have_form(job: Job) -> bool:
    try:
        return not is_own_task(find_task(job.task_path))
    except ImportError:  # the form says it
        return True


def _find_task(job: Job) -> Any:
    """Return the task of a job with a signature. Raises ``CannotRunAgain``, also if the job's backend is not usable."""
    if not stores_jobs(job.backend):  # One of another kind may execute the task in the request.
        error = _(
            "In this process the backend of this job, %(backend)s, stores no jobs of this app, "
            "so it cannot be run again here."
        )
        raise CannotRunAgain(error % {"backend": job.backend})
    try:
        task = find_task(job.task_path)
        signature_of(task.func)
    except (ImportError, TypeError, ValueError) as exc:
        error = _(
            "This process cannot import the task of this job, so it cannot be run again here: %(error)s"
        )
        raise CannotRunAgain(error % {"error": exc}) from exc
    return task


def _enqueue(task: Any, job: Job, args: list[Any], kwargs: Mapping[str, Any], token: str) -> UUID:
    """Enqueue a job as ``job`` with these arguments, once for a form that is sent twice. Returns its id."""
    sent = sha256(json.dumps([token, args, kwargs], sort_keys=True).encode()).hexdigest()
    key = f"{KEY_PREFIX}{job.pk.hex}:{sent}"
    again = with_options(task, owner=job.user_id, title=job.title, url=job.url, key=key)
    # The task may be declared for another backend than the one that the job was enqueued with.
    again = again.using(backend=job.backend, queue_name=job.queue_name, priority=job.priority)
    return UUID(again.enqueue(*args, **kwargs).id)
