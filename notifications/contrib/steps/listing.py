"""The steps of a job, for the list of its steps and waits."""

from __future__ import annotations

from typing import Any

from django.db.models import Case, F, When
from django.db.models.functions import Length

from notifications.contrib.steps.models import Step
from notifications.db.transactions import database
from notifications.jobs import step_list
from notifications.jobs.step_list import StoredStep, describe_json, read_redacted
from notifications.models import Job


def list_steps(job: Job, limit: int, *, with_results: bool) -> tuple[list[StoredStep], int]:
    """Return the first steps of a job, and the number of all. Without ``with_results`` no result is read."""
    rows = Step.objects.using(database()).filter(job=job.pk)
    columns: dict[str, Any] = {}
    if with_results:
        size = Length("result")
        columns = {"size": size, "text": Case(When(size__lte=step_list.MAX_RESULT_CHARS, then=F("result")))}
    found = list(
        rows.annotate(**columns)
        .order_by("id")
        .values("name", "attempt", "started_at", "ended_at", *columns)[:limit]
    )
    redacted = read_redacted(job) if with_results and found else frozenset()
    first = [
        StoredStep(
            name=row["name"],
            attempt=row["attempt"],
            started_at=row["started_at"],
            took=row["ended_at"] - row["started_at"],
            result=describe_json(row["name"], row["text"], row["size"], redacted) if with_results else None,
        )
        for row in found
    ]
    return first, len(first) if len(first) < limit else rows.count()
