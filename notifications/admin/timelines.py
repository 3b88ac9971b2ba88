"""What pages of the admin show beside a job: timelines, attempts that did not succeed, and why it waits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.http import HttpRequest
from django.utils import formats
from django.utils.html import format_html_join
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _

from notifications import times
from notifications.db.transactions import database
from notifications.extension import Event
from notifications.jobs.claiming.waiting_reasons import WaitReason, why_jobs_wait
from notifications.jobs.listing import read_last_errors
from notifications.jobs.viewing import can_view
from notifications.models import Attempt, Job
from notifications.templatetags.notifications_formats import duration

#: Attempts of a job that are shown, and those that are counted, at most.
MAX_ATTEMPTS_SHOWN, MAX_ATTEMPTS_COUNTED = 20, 1_000


def lines_of_events(events: Iterable[Event]) -> str:
    lines = ((f"{times.format_exact(event.at)} · " if event.at else "", event.text) for event in events)
    return format_html_join(mark_safe("<br>"), "{}{}", lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptList:
    """The newest attempts of a job, and the heading above them, which says how many there are."""

    heading: str
    newest: list[Attempt]


def set_last_errors(request: HttpRequest, jobs: list[Job]) -> None:
    """Set ``last_error_shown`` of the jobs whose last attempt failed, as far as the user may view it."""
    if not can_view(request.user, "attempts"):
        return
    errors = read_last_errors(jobs, with_tracebacks=can_view(request.user, "tracebacks"))
    for job in jobs:
        job.last_error_shown = errors.get(job.pk)  # type: ignore[attr-defined]


def set_wait_reasons(jobs: Sequence[Job]) -> None:
    """Set ``wait_reason`` of these jobs, which ``wait_reason()`` returns, in a few queries for all of them."""
    reasons = why_jobs_wait(jobs)
    for job in jobs:
        job.wait_reason = reasons.get(job.pk)  # type: ignore[attr-defined]


def wait_reason(job: Job) -> WaitReason | None:
    """Return why a job waits, None if it does not."""
    if not hasattr(job, "wait_reason"):
        set_wait_reasons([job])
    reason: WaitReason | None = job.wait_reason  # type: ignore[attr-defined]
    return reason


def read_attempts(job: Job, *, with_tracebacks: bool) -> AttemptList:
    """Return the newest ``MAX_ATTEMPTS_SHOWN`` attempts. Without ``with_tracebacks`` no traceback is read."""
    rows = Attempt.objects.using(database()).filter(job=job.pk)
    shown = rows if with_tracebacks else rows.defer("traceback")
    newest = list(shown.order_by("-number", "-id")[:MAX_ATTEMPTS_SHOWN])
    if not with_tracebacks:
        for attempt in newest:
            attempt.traceback = ""
    for attempt in newest:
        attempt.took = (  # type: ignore[attr-defined]
            duration(max(0.0, (attempt.ended_at - attempt.started_at).total_seconds()))
            if attempt.started_at
            else "-"
        )
    heading = _("Attempts that did not succeed")
    if len(newest) == MAX_ATTEMPTS_SHOWN:
        count = rows.values("pk")[: MAX_ATTEMPTS_COUNTED + 1].count()
        if count > MAX_ATTEMPTS_SHOWN:
            number = formats.number_format(min(count, MAX_ATTEMPTS_COUNTED), force_grouping=True)
            if count > MAX_ATTEMPTS_COUNTED:
                number = _("over %(count)s") % {"count": number}
            words = {"shown": MAX_ATTEMPTS_SHOWN, "count": number}
            heading = _("Attempts that did not succeed: the newest %(shown)s of %(count)s") % words
    return AttemptList(heading=heading, newest=newest)
