"""Read the steps of a job: those that have returned, and calls that have stored no result."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Case, F, When
from django.db.models.functions import Length

from notifications.contrib.steps.models import Step, UnfinishedStep
from notifications.contrib.steps.values import decode
from notifications.db import database
from notifications.models import Job

#: Characters of the results that pages show: of longer ones only the size is read.
MAX_RESULT_CHARS = 20_000
#: Calls without a result that are shown: those that run, then the newest.
MAX_UNFINISHED_SHOWN = 50


def read_results(job: UUID) -> dict[str, Any]:
    """Return the stored results of a job's steps by name, in the order in which they were stored."""
    rows = Step.objects.using(database()).filter(job=job).order_by("id")
    return {name: decode(result) for name, result in rows.values_list("name", "result")}


def list_steps(
    job: Job, limit: int, *, with_results: bool, with_unfinished: bool
) -> tuple[list[dict[str, Any]], int]:
    """Return the first steps of a job, and the number of all. Without ``with_results`` no result is read."""
    rows = Step.objects.using(database()).filter(job=job.pk)
    columns: dict[str, Any] = {}
    if with_results:
        size = Length("result")
        columns = {"size": size, "text": Case(When(size__lte=MAX_RESULT_CHARS, then=F("result")))}
    found = list(
        rows.annotate(**columns)
        .order_by("id")
        .values("name", "attempt", "started_at", "ended_at", *columns)[:limit]
    )
    first = [{"took": row.pop("ended_at") - row["started_at"], **row} for row in found]
    count = len(first) if len(first) < limit else rows.count()
    if not with_unfinished:
        return first, count
    unfinished, number = _list_unfinished(job)
    return first + unfinished, count + number


def _list_unfinished(job: Job) -> tuple[list[dict[str, Any]], int]:
    """Return calls of a job that have stored no result, and the number of all. Those that may run are the first."""
    steps = []
    rows = UnfinishedStep.objects.using(database()).filter(job=job.pk)
    has_ended = Case(When(ended_at=None, fence=job.fence, then=False), default=True)
    for row in rows.order_by(has_ended, "-id")[:MAX_UNFINISHED_SHOWN]:
        took = row.ended_at and row.ended_at - row.started_at
        is_running = took is None and job.state == Job.State.RUNNING and row.fence == job.fence
        state = "running" if is_running else "failed" if took is not None else "lost"
        step = {"name": row.name, "attempt": row.attempt, "started_at": row.started_at}
        steps.append({**step, "took": took, "state": state})
    return steps, len(steps) if len(steps) < MAX_UNFINISHED_SHOWN else rows.count()
