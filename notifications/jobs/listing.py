"""How lists of jobs are read by index and searched, and the errors of jobs that they show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import F, Q, TextField, Value
from django.db.models.functions import Right

from notifications.db.transactions import database
from notifications.ids import parse_id
from notifications.models import Attempt, Job
from notifications.states import LISTED_WITH_ERROR
from notifications.validators import shortened

#: Characters at the end of a traceback that are read, and those of an error that a list shows.
MAX_END_CHARS, MAX_ERROR_CHARS = 1_000, 120


def search_condition(text: str) -> Q:
    """Return the condition of jobs with this id, or with all these words in their title or task."""
    if id := parse_id(text):
        return Q(pk=id)
    conditions = Q()
    for word in text.split():
        conditions &= Q(title__icontains=word) | Q(task_path__icontains=word)
    return conditions


def queued_in_index_order(jobs: Any) -> list[Any]:
    """Return querysets of these queued jobs, each in the order of an index: those in the queue, and scheduled ones.

    For another order SQLite would read the whole table.
    """
    return [
        jobs.filter(due_at=None).order_by("executor", "-priority", "turn", "id"),
        jobs.filter(due_at__isnull=False).order_by("due_at", "id"),
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class LastError:
    """The last line of a traceback, or the name of the exception or else of the outcome; and where it was raised."""

    text: str
    location: str


def read_last_errors(jobs: Iterable[Job], *, with_tracebacks: bool) -> dict[UUID, LastError]:
    """Return the errors of those of these jobs whose last attempt failed, by their ids, in one query at most."""
    failed = [job.pk for job in jobs if job.attempt and job.state in LISTED_WITH_ERROR]
    if not failed:
        return {}
    end = Right("traceback", MAX_END_CHARS) if with_tracebacks else Value("", output_field=TextField())
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
        errors[id] = LastError(text=shortened(shown or name or label, MAX_ERROR_CHARS), location=location)
    return errors
