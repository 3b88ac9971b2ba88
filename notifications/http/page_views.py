"""What pages show of a job, and its forms. They work without JavaScript."""

from __future__ import annotations

import json
from functools import reduce
from operator import or_
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_POST

from notifications import serializers
from notifications.db.transactions import database
from notifications.exceptions import TooManyJobs
from notifications.extension import hooks
from notifications.http.access import page_view, text_response
from notifications.jobs.info import describe_elapsed, describe_pace, describe_took
from notifications.jobs.outcomes import end_key
from notifications.jobs.step_list import read_steps
from notifications.jobs.transitions import manual
from notifications.models import Job, Notification
from notifications.states import LEVELS, describe_state

#: Positions of a stream between a job and the notification of its end: one pass numbers both.
MAX_DISTANCE = 1_000
#: Sections that have a place of their own on the page of a job.
NAMED_SECTIONS = ("question", "steps", "output")


def describe_job(
    job: Job, request: HttpRequest, end: Notification | None, *, in_pane: bool = False
) -> dict[str, Any]:
    """Return what pages show its owner of a job: its state, outcome and steps, and the sections of extensions.

    ``end``
        The notification of its end, whose text and level are the outcome of a job that succeeded: see ``find_end()``.
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
        "outcome": (job.state == Job.State.SUCCEEDED and end and end.body) or describe_state(job),
        "level": end.level if end else LEVELS.get(job.state, ""),
        "took": describe_took(job),
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


def find_end(job: Job) -> Notification | None:
    """Return the notification of the end of a job, None if it is not done, or its end was not announced.

    One that was snoozed and raised again is not found.
    """
    if not job.done or job.seq is None:
        return None
    near = Q(user=job.user_id, raised__range=(job.seq - MAX_DISTANCE, job.seq + MAX_DISTANCE))
    # Each has an index: see streams/listing.py.
    is_in_partition = [
        near & Q(read_at__isnull=is_unread, archived_at__isnull=is_in_inbox)
        for is_unread in (True, False)
        for is_in_inbox in (True, False)
    ]
    rows = Notification.objects.using(database()).filter(reduce(or_, is_in_partition), key=end_key(job.pk))
    return max((row for row in rows if row.job == job.pk), key=lambda row: row.raised, default=None)


@page_view
@require_POST
def job_cancel(request: HttpRequest, id: UUID) -> HttpResponse:
    """Cancel a job of the user and redirect to its page."""
    job = get_job(request, id)
    manual.cancel([id], by=request.user.pk)
    return _redirect_to_job(job)


@page_view
@require_POST
def job_retry(request: HttpRequest, id: UUID) -> HttpResponse:
    """Queue a failed or cancelled job of the user again and redirect to its page."""
    job = get_job(request, id)
    try:
        manual.retry([id])
    except TooManyJobs as exc:
        return text_response(
            gettext("You have too many unfinished jobs. Go back, wait until some are done, and try again."),
            status=429,
            retry_after=exc.retry_after,
        )
    return _redirect_to_job(job)


def get_job(request: HttpRequest, id: UUID) -> Job:
    """Return a job of the user. Raises Http404."""
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
