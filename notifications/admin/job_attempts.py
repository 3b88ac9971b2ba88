"""The timeline of a job's attempts that did not succeed, the newest first."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import F, TextField, Value
from django.db.models.functions import Right
from django.http import HttpRequest
from django.utils import formats
from django.utils.translation import gettext as _

from notifications.db.transactions import database
from notifications.models import Attempt, Job
from notifications.states import LISTED_WITH_ERROR
from notifications.templatetags.notifications_overview import duration

#: Attempts of a job that are shown, and those that are counted, at most.
MAX_ATTEMPTS_SHOWN, MAX_ATTEMPTS_COUNTED = 20, 1_000

#: Characters at the end of a traceback that are read for a list, and those of an error that it shows.
MAX_END_CHARS, MAX_ERROR_CHARS = 1_000, 120


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptList:
    """The newest attempts of a job, and the heading above them, which says how many there are."""

    heading: str
    newest: list[Attempt]


@dataclass(frozen=True, kw_only=True, slots=True)
class LastError:
    """What a job raised last: the last line of its traceback, or the name of the exception, and where."""

    text: str
    location: str


def set_last_errors(request: HttpRequest, jobs: list[Job]) -> None:
    """Set ``last_error_shown`` of the jobs whose last attempt failed, as far as the user may view it, in one query."""
    failed = [job.pk for job in jobs if job.attempt and job.state in LISTED_WITH_ERROR]
    if not failed or not request.user.has_perm("notifications.view_attempt"):
        return
    has_tracebacks = request.user.has_perm("notifications.view_traceback")
    end = Right("traceback", MAX_END_CHARS) if has_tracebacks else Value("", output_field=TextField())
    rows = (
        Attempt.objects.using(database()).filter(job__in=failed, number=F("job__attempt")).annotate(end=end)
    )
    columns = ("job_id", "exception_class_path", "outcome", "location", "end")
    errors = {}
    for id, exception, outcome, location, text in rows.values_list(*columns):
        name = exception.removeprefix("builtins.").rpartition(".")[2]
        last_line = text.strip().rpartition("\n")[2] if name else ""
        # The end of the traceback begins within its last line, if that is long.
        path, colon, message = last_line.partition(":")
        shown = f"{name}{colon}{message}" if path.endswith(name) else ""
        label = str(Attempt.Outcome(outcome).label)
        errors[id] = LastError(text=_shortened(shown or name or label), location=location)
    for job in jobs:
        job.last_error_shown = errors.get(job.pk)  # type: ignore[attr-defined]


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_ERROR_CHARS else f"{text[: MAX_ERROR_CHARS - 1]}…"


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
