"""The default page of a job, and its forms. It works without JavaScript."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_POST, require_safe

from notifications import serializers
from notifications.db.transactions import database
from notifications.exceptions import TooManyJobs
from notifications.extension import hooks
from notifications.http.access import page_view, text_response
from notifications.jobs.info import describe_elapsed, describe_pace
from notifications.jobs.step_list import read_steps
from notifications.jobs.transitions import manual
from notifications.models import Job
from notifications.states import describe_state
from notifications.streams import number_if_needed
from notifications.streams.positions import read_stream_position

#: Sections that have a place of their own on the page of a job.
NAMED_SECTIONS = ("question", "steps", "output")


@page_view
@require_safe
def job_detail(request: HttpRequest, id: UUID) -> HttpResponse:
    """Show the progress of a job of the user, or its result."""
    user = request.user.pk
    number_if_needed([user])
    position = read_stream_position(user)
    job = _get_job(request, id)
    context = {
        "notifications_position": position,
        "has_job": True,  # {% notifications %} preloads the modules of <notifications-job>
        **describe_job(job, request),
    }
    return render(request, "notifications/job.html", context)


def describe_job(job: Job, request: HttpRequest, *, in_pane: bool = False) -> dict[str, Any]:
    """Return what pages show its owner of a job: its state, outcome and steps, and the sections of extensions.

    ``in_pane``
        It is shown with a notification.

    ``sections`` are the templates of these by their names, ``other_sections`` those for which no block stands.
    """
    sections = [section for section in hooks.job_sections if section.page_template]
    shown = [section for section in sections if section.is_in_pane or not in_pane]
    of_sections = [section.page_context(job, request) for section in shown]
    return {
        "sections": {section.name: section.page_template for section in shown},
        "other_sections": [section.page_template for section in shown if section.name not in NAMED_SECTIONS],
        "job": job,
        "state": describe_state(job),
        "elapsed": describe_elapsed(job),
        "pace": describe_pace(job),
        "is_cancelled_by_owner": job.state == Job.State.CANCELLED and not job.cancelled_by_other,
        "can_retry": job.can_retry,
        "error": serializers.job_error(job),
        "result": _format_result(job.result),
        # Without results, which nobody has meant for the owner.
        "steps": read_steps(job, with_results=False, reader=job.user_id),
        **{name: value for context in of_sections for name, value in context.items()},
    }


@page_view
@require_POST
def job_cancel(request: HttpRequest, id: UUID) -> HttpResponse:
    """Cancel a job of the user and redirect to its page."""
    job = _get_job(request, id)
    manual.cancel([id], by=request.user.pk)
    return _redirect_to_job(job)


@page_view
@require_POST
def job_retry(request: HttpRequest, id: UUID) -> HttpResponse:
    """Queue a failed or cancelled job of the user again and redirect to its page."""
    job = _get_job(request, id)
    try:
        manual.retry([id])
    except TooManyJobs as exc:
        return text_response(
            gettext("You have too many unfinished jobs. Go back, wait until some are done, and try again."),
            status=429,
            retry_after=exc.retry_after,
        )
    return _redirect_to_job(job)


def _get_job(request: HttpRequest, id: UUID) -> Job:
    job = Job.objects.using(database()).filter(pk=id, user=request.user.pk).first()
    if job is None:
        raise Http404("The job does not exist.")
    return job


def _redirect_to_job(job: Job) -> HttpResponse:
    """Redirect to the job's ``url`` if it is on this site, otherwise to its default page."""
    location = job.url if job.url.startswith("/") else reverse("notifications:job", args=[job.id])
    return HttpResponseRedirect(location, status=303)


def _format_result(text: str | None) -> str:
    """Return a JSON result indented, strings as they are, and ``""`` for null."""
    try:
        value = None if text is None else json.loads(text)
    except (ValueError, RecursionError):  # damaged: shown as it is stored
        value = text
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, indent=2, ensure_ascii=False)
