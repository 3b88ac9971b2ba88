"""The timeline of a job's steps, as pages and commands show it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Case, F, When
from django.db.models.functions import Length
from django.utils.formats import number_format
from django.utils.translation import gettext

from notifications.db.transactions import database
from notifications.jobs.redaction import describe_value
from notifications.jobs.results import policy_at
from notifications.models import Job, Step

#: Steps of a job that are shown, and characters of the results among which a shown part is looked for.
MAX_STEPS_SHOWN, MAX_RESULT_CHARS = 200, 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredStep:
    """A step of a job.

    ``result``
        As text without secrets, its size if it is large, None if it was not read.
    """

    name: str
    attempt: int
    started_at: datetime
    took: timedelta
    result: str | None

    @property
    def took_label(self) -> str:
        """The seconds that the call took, in the active language."""
        seconds = self.took.total_seconds()
        return gettext("{count} s").format(count=number_format(seconds, 2 if seconds < 10 else 0))


@dataclass(frozen=True, kw_only=True, slots=True)
class StepList:
    """The first steps of a job in the order in which they were stored, and the number of all."""

    first: list[StoredStep]
    count: int

    @property
    def heading(self) -> str:
        """What stands above the list, with the number of steps if not all are shown."""
        if len(self.first) == self.count:
            return gettext("Steps")
        counts = {
            "shown": number_format(len(self.first)),
            "count": number_format(self.count, force_grouping=True),
        }
        return gettext("Steps: the first {shown} of {count}").format(**counts)


def read_steps(job: Job, *, with_results: bool) -> StepList:
    """Return the first ``MAX_STEPS_SHOWN`` steps of a job. Without ``with_results`` no result is read."""
    if not job.attempt:
        return StepList(first=[], count=0)
    rows = Step.objects.using(database()).filter(job=job.pk)
    columns: dict[str, Any] = {}
    if with_results:
        size = Length("result")
        columns = {"size": size, "text": Case(When(size__lte=MAX_RESULT_CHARS, then=F("result")))}
    found = list(
        rows.annotate(**columns)
        .order_by("id")
        .values("name", "attempt", "started_at", "ended_at", *columns)[:MAX_STEPS_SHOWN]
    )
    redacted = frozenset(policy_at(job.task_path).redact) if with_results and found else frozenset()
    first = [
        StoredStep(
            name=row["name"],
            attempt=row["attempt"],
            started_at=row["started_at"],
            took=row["ended_at"] - row["started_at"],
            result=_describe(row, redacted) if with_results else None,
        )
        for row in found
    ]
    count = len(first) if len(first) < MAX_STEPS_SHOWN else rows.count()
    return StepList(first=first, count=count)


def read_results(job: UUID) -> dict[str, Any]:
    """Return the stored results of a job's steps by name, in the order in which they were stored."""
    rows = Step.objects.using(database()).filter(job=job).order_by("id")
    return {name: json.loads(result) for name, result in rows.values_list("name", "result")}


def _describe(row: dict[str, Any], redacted: frozenset[str]) -> str:
    if row["text"] is None:
        return f"{row['size']:,} characters of JSON"
    try:
        return describe_value(row["name"], json.loads(row["text"]), redacted)
    except (ValueError, RecursionError):
        return "damaged: not JSON"
