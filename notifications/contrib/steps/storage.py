"""Store the results of steps of running jobs, many in one transaction; read those of a job, and delete them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Case, F, When
from django.db.models.functions import Length

from notifications.contrib.steps.models import Step
from notifications.contrib.steps.values import decode
from notifications.db import bulk
from notifications.db.transactions import database, retrying_atomic
from notifications.jobs import step_list
from notifications.jobs.step_list import StoredStep, describe_json, read_redacted
from notifications.jobs.transitions.conditional_updates import is_claim_valid, read_fences
from notifications.models import Job


@dataclass(eq=False, kw_only=True, slots=True)
class StepWrite:
    """A result to store for a step of the claim that ``job`` holds.

    ``future``
        Completed with the stored result, which is another one if the name existed, or with ``AttemptEnded``.
    """

    job: Job
    name: str
    result: str
    started_at: datetime
    ended_at: datetime
    future: Future[str] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.future.set_running_or_notify_cancel()  # what was paid for is stored even if its task is cancelled


def store_steps(group: Sequence[StepWrite]) -> dict[StepWrite, str | None]:
    """Store results in one transaction, each conditional on fence and state of its job, whose row it locks.

    Returns for each the result that is stored now, None if the claim is void, so that nothing was stored. One that is
    left out has a row that another transaction holds locked: try it again. Raises ``django.db.DataError`` when the
    database refuses one of the group.
    """
    return retrying_atomic(lambda: _store(group))


def read_names(job: UUID) -> dict[str, str]:
    """See ``Extension.stored_names()``."""
    names = Step.objects.using(database()).filter(job=job).values_list("name", flat=True)
    return dict.fromkeys(names, "step")


def delete_repeated_steps(jobs: Collection[UUID], *, from_start: bool) -> None:
    """Delete the steps of jobs that are retried from their start. See ``Extension.on_retried()``."""
    if from_start and jobs:
        Step.objects.using(database()).filter(job__in=jobs).delete()


def read_results(job: UUID) -> dict[str, Any]:
    """Return the stored results of a job's steps by name, in the order in which they were stored."""
    rows = Step.objects.using(database()).filter(job=job).order_by("id")
    return {name: decode(result) for name, result in rows.values_list("name", "result")}


def _store(group: Sequence[StepWrite]) -> dict[StepWrite, str | None]:
    jobs = {write.job.id: write.job for write in group}
    _, locked = read_fences(jobs.values())
    existing = locked if len(locked) == len(jobs) else read_fences(jobs.values(), lock=False)[1]
    results: dict[StepWrite, str | None] = {}
    for write in group:
        if not is_claim_valid(existing.get(write.job.id), write.job):
            results[write] = None
        elif write.job.id in locked:
            results[write] = write.result
    valid = [write for write, result in results.items() if result is not None]
    # After the lock, without which another transaction could insert the same name. A write whose answer was lost with
    # the connection finds its own row.
    rows = Step.objects.using(database()).filter(
        job__in={write.job.id for write in valid}, name__in={write.name for write in valid}
    )
    stored = {(job, name): result for job, name, result in rows.values_list("job", "name", "result")}
    results |= {
        write: stored[write.job.id, write.name] for write in valid if (write.job.id, write.name) in stored
    }
    bulk.insert(
        [
            Step(
                job=write.job.id,
                name=write.name,
                result=write.result,
                attempt=write.job.attempt,
                started_at=write.started_at,
                ended_at=write.ended_at,
            )
            for write in valid
            if (write.job.id, write.name) not in stored
        ]
    )
    return results


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
