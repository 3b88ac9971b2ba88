"""What pages show of a job, and its forms. They work without JavaScript."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from functools import reduce
from hashlib import sha256
from itertools import accumulate
from math import log
from operator import or_
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import get_language, gettext
from django.views.decorators.http import require_POST

from notifications import paths, serializers, times
from notifications.db.transactions import database
from notifications.exceptions import JobRateExceeded, TooManyJobs
from notifications.extension import hooks
from notifications.http.access import page_view
from notifications.http.negotiation import is_not_modified
from notifications.jobs import limits, turns
from notifications.jobs.info import describe_elapsed, describe_pace, describe_took
from notifications.jobs.outcome_texts import describe_failure, read_told_outcome
from notifications.jobs.outcomes import end_key
from notifications.jobs.step_list import StepList, read_steps
from notifications.jobs.timeline import read_failed_attempts, read_job_timeline
from notifications.jobs.transitions import batch_completion, manual
from notifications.models import Job, Notification
from notifications.problems import Problem
from notifications.states import DONE, LEVELS, describe_state

#: Positions of a stream between a job and the notification of its end: one pass numbers both.
MAX_DISTANCE = 1_000
#: Sections that have a place of their own on the page of a job.
NAMED_SECTIONS = ("question", "steps", "output")
#: Failed jobs that the page of a batch lists.
MAX_FAILED_JOBS = 10
#: The parameter with which the page of a job is loaded again at its end, and the seconds for which it counts.
WATCHED, STEADY_SECONDS = "watched", 20
#: Seconds after its creation before which the page of a job does not show both that and what followed it.
MIN_WAIT_SECONDS = 60


def describe_job(
    job: Job,
    request: HttpRequest,
    end: Notification | None,
    *,
    in_pane: bool = False,
    question_page: str = "",
) -> dict[str, Any]:
    """Return what pages show its owner of a job: its state, outcome and timeline, and the sections of extensions.

    ``end``
        The notification of its end, whose text and level are its outcome if its task has given them: see
        ``find_end()``.
    ``in_pane``
        It is shown with a notification, whose events are those of the job too.
    ``question_page``
        That of a question that is shown besides, so not among the steps.

    ``sections`` are the templates of these by their names, ``other_sections`` those for which no block stands.
    """
    shown = [section for section in hooks.job_sections if section.is_in_pane or not in_pane]
    of_sections = {
        name: value for section in shown for name, value in section.page_context(job, request).items()
    }
    steps = _read_steps(job, request, of_sections.get("question_page", question_page))
    timeline = read_job_timeline(
        job, steps, read_failed_attempts(job), request.user.pk, with_events=not in_pane
    )
    error = serializers.job_error(job)
    batch = _describe_batch(job, request.user.pk) if job.done and batch_completion.is_batch(job) else None
    state = describe_state(job)
    reason = (error.get("detail") or error.get("title")) if error and job.state == Job.State.FAILED else ""
    result = _format_result(job.result)
    told = read_told_outcome(job, end, error)
    outcome = told or (batch and reason) or state
    if batch and job.state == Job.State.CANCELLED:
        reason = batch["counts"]
    return {
        "sections": {section.name: section.page_template for section in shown if section.page_template},
        "other_sections": [
            section.page_template
            for section in shown
            if section.page_template and section.name not in NAMED_SECTIONS
        ],
        "job": job,
        "state": state,
        "outcome": outcome,
        "reason": "" if reason == outcome else reason,
        "batch": batch,
        "stopped_early": outcome == state and (job.progress_current or 0) < (job.progress_total or 0),
        "has_waited": _seconds_before(job, job.finished_at or job.started_at) >= MIN_WAIT_SECONDS,
        # Nothing may move at the end for those who watch it. Others find no empty room.
        "is_steady": not job.done
        or (WATCHED in request.GET and _seconds_since(job.finished_at) < STEADY_SECONDS),
        "level": end.level if end else LEVELS.get(job.state, "info"),
        # Of a job that has waited it would be the time since then.
        "took": "" if steps.has_waits else describe_took(job),
        "elapsed": describe_elapsed(job),
        "reload_after": 0,
        "before": turns.count_before(job),
        "pace": describe_pace(job),
        # Of a job without an owner nothing says who has cancelled it.
        "is_cancelled_by_owner": job.state == Job.State.CANCELLED
        and job.user_id is not None
        and not job.cancelled_by_other,
        "can_retry": job.can_retry,
        "result": "" if batch or result == outcome else result,
        "timeline": timeline,
        **of_sections,
    }


def timeline_part(job: Job, request: HttpRequest) -> HttpResponse:
    """Return the timeline of a job's page alone, which an open page reads again. 304 if it has nothing new.

    The scale is new when the whole has become a tenth longer: then what goes on is drawn anew.
    """
    asking = [section for section in hooks.job_sections if section.name == "question"]
    context = asking[0].page_context(job, request) if asking and job.state == Job.State.WAITING else {}
    steps = _read_steps(job, request, context.get("question_page", ""))
    timeline = read_job_timeline(job, steps, read_failed_attempts(job), request.user.pk)
    facts = [replace(row, left="", width="") for row in (*timeline.rows, *timeline.more)]
    scale = int(10 * log(max(timeline.seconds, 1)))
    digest = sha256(repr((facts, scale, timeline.note, job.done, get_language())).encode()).hexdigest()
    etag = f'W/"{digest[:32]}"'
    if is_not_modified(etag.removeprefix("W/"), request):
        return HttpResponse(status=304, headers={"ETag": etag})
    response = render(request, "notifications/job_timeline.html", {"job": job, "timeline": timeline})
    response["ETag"] = etag
    return response


def _read_steps(job: Job, request: HttpRequest, question_page: str) -> StepList:
    """Return the steps that pages show its owner of a job, without the question that they show besides.

    Without results, which may not be meant for the owner.
    """
    steps = read_steps(job, with_results=False, reader=request.user.pk)
    if not question_page:
        return steps
    others = [step for step in steps.first if step.page != question_page]
    return replace(steps, first=others, count=steps.count - len(steps.first) + len(others))


def _seconds_before(job: Job, moment: datetime | None) -> float:
    return (times.as_utc(moment) - times.as_utc(job.created_at)).total_seconds() if moment else 0.0


def _seconds_since(moment: datetime | None) -> float:
    return (times.now() - times.as_utc(moment)).total_seconds() if moment else 0.0


def _describe_batch(job: Job, user: Any) -> dict[str, Any]:
    """Return what pages show of the jobs of a batch that is done: the bar of their outcomes, and those that failed.

    Those of other users are counted only.
    """
    counts = batch_completion.count_states([job.pk])[job.pk]
    ended = {state: counts[state] for state in DONE}
    total = sum(ended.values())
    # Each part of the bar covers the one before it.
    ends = [
        (LEVELS[state], f"{100 * end / max(total, 1):.2f}%")
        for state, end in zip(ended, accumulate(ended.values()), strict=True)
    ]
    rows = Job.objects.using(database()).filter(batch=job.pk, state=Job.State.FAILED)
    failed = rows.filter(Q(user=None) | Q(user=user)).order_by("id")[:MAX_FAILED_JOBS]
    by_reason: dict[str, dict[str, list[str]]] = {}
    for row in failed:
        reason = describe_failure(row, serializers.job_error(row) or {})
        by_reason.setdefault(reason, {}).setdefault(row.title, []).append(row.url or paths.job_path(row.pk))
    return {
        "bar": ends[::-1] if total > ended[Job.State.SUCCEEDED] else [],
        "counts": batch_completion.describe_counts(**{str(state): count for state, count in ended.items()}),
        # Each reason once, and each title once below it, with the pages of the jobs that have it.
        "failed": [(reason, list(titles.items())) for reason, titles in by_reason.items()],
        # Those that were cancelled run again too.
        "retries": 0 if ended[Job.State.CANCELLED] else ended[Job.State.FAILED],
        "others": max(0, ended[Job.State.FAILED] - len(failed)),
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
        limits.retry_within_rate(request.user.pk, id, lambda: manual.retry([id], by=request.user.pk))
    except JobRateExceeded as exc:
        text = gettext("You have started too many jobs within a minute. Go back, and try again later.")
        raise Problem(429, text, headers={"Retry-After": str(exc.retry_after)}) from exc
    except TooManyJobs as exc:
        text = gettext("You have too many unfinished jobs. Go back, wait until some are done, and try again.")
        raise Problem(429, text, headers={"Retry-After": str(exc.retry_after)}) from exc
    return _redirect_to_job(job)


def read_batch(request: HttpRequest, job: Job) -> Job | None:
    """Return the batch of a job if it has a page for the user, else None."""
    try:
        return get_job(request, job.batch) if job.batch else None
    except Http404:
        return None


def get_job(request: HttpRequest, id: UUID) -> Job:
    """Return a job of the user, or one without an owner of a batch of the user. Raises Http404."""
    job = Job.objects.using(database()).filter(pk=id).first()
    if job is None or request.user.pk not in (
        job.user_id,
        batch_completion.read_batch_owners([job]).get(job.pk),
    ):
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
