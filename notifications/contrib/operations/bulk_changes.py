"""Retry, cancel or reschedule all jobs that a filter finds, in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from notifications.admin import NEWEST_FIRST, count_rows, read_page
from notifications.contrib.operations.matching import JobFilter
from notifications.db import database
from notifications.jobs import cancel, reschedule, retry
from notifications.models import ACTIVE, CLAIMABLE, RETRYABLE, Job

#: Jobs that are changed between two reports of progress.
JOBS_PER_CHUNK = 1_000
#: Jobs are counted before they are changed, of so many that are read.
MAX_JOBS_COUNTED = 1_000_000

#: The states of the jobs that each change applies to.
STATES: dict[str, Any] = {
    "retry": RETRYABLE,
    "cancel": ACTIVE,
    "run_now": CLAIMABLE,
    "reschedule": CLAIMABLE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangedJobs:
    """The jobs of one chunk: all that were found, and those of them that were changed."""

    found: list[UUID]
    changed: list[UUID]


def count_jobs(change: str, conditions: JobFilter) -> tuple[int, bool]:
    """Return how many jobs a change applies to, and whether there may be more.

    Of the jobs in the states that it applies to, ``MAX_JOBS_COUNTED`` are read, whether they match or not.
    """
    total, left, is_partial = 0, MAX_JOBS_COUNTED, False
    for part in _parts(change, conditions):
        matching = _filter(change, part, Job.objects.using(database()))
        if (ids := part.few_ids()) is not None:
            total += count_rows(matching.filter(pk__in=ids), len(ids))
            continue
        for rows in part.selections():
            read = count_rows(rows, left + 1)
            is_partial = is_partial or read > left
            if left and read:
                total += count_rows(matching, left, among=rows[:left])
            left = max(left - read, 0)
    return total, is_partial


def has_observed_jobs(conditions: JobFilter) -> bool:
    """Return whether executions of Celery tasks are among the jobs that a retry would apply to."""
    rows = conditions.apply(Job.objects.using(database()))
    return bool(rows.filter(executor=Job.Executor.OBSERVED, state__in=RETRYABLE).exists())


def conditions_until(change: str, conditions: JobFilter, moment: datetime) -> JobFilter:
    """Return the conditions of jobs that a change applies to at a moment: later ones are not meant."""
    until = min(conditions.created_until or moment, moment)
    finished_until = conditions.finished_until
    if change == "retry":
        finished_until = min(finished_until or moment, moment)
    return replace(conditions, created_until=until, finished_until=finished_until)


def change_jobs(
    change: str,
    conditions: JobFilter,
    *,
    by: Any,
    run_at: datetime | None = None,
    check_permission: Callable[[], None] = lambda: None,
) -> Iterator[ChangedJobs]:
    """Change all jobs that meet the conditions, newest first, ``JOBS_PER_CHUNK`` at a time. Yields each chunk.

    ``change``
        ``"retry"``, ``"cancel"``, ``"run_now"`` or ``"reschedule"``.
    ``by``
        The key of the user who changes them.
    ``run_at``
        When rescheduled jobs run.
    ``check_permission``
        Called before each chunk. What it raises ends the change.

    A job whose owner has too many active jobs is not retried. Done again from the start it changes no job otherwise,
    because a changed job has left the states that it applies to, or gets the same time.
    """
    apply = partial(reschedule, run_at=run_at) if change == "reschedule" else partial(_APPLY[change], by)
    for part in _parts(change, conditions):
        for ids in _read_ids(change, part):
            check_permission()
            yield ChangedJobs(found=ids, changed=apply(ids))


def _parts(change: str, conditions: JobFilter) -> list[JobFilter]:
    """Return the conditions for each state that the change applies to, because an index has the jobs of one state."""
    return [replace(conditions, state=state) for state in STATES[change] if conditions.state in ("", state)]


def _filter(change: str, conditions: JobFilter, rows: Any) -> Any:
    rows = conditions.apply(rows)
    if change == "run_now":
        return rows.filter(run_after__isnull=False)
    # Only Celery can run its tasks, at its time.
    return rows.exclude(executor=Job.Executor.OBSERVED) if change in ("retry", "reschedule") else rows


def _select(change: str, conditions: JobFilter) -> tuple[Any, Any]:
    rows = _filter(change, conditions, Job.objects.using(database()))
    return conditions.narrow(rows, is_exact=change == "cancel" and not conditions.finished_until)


def _read_ids(change: str, conditions: JobFilter) -> Iterator[list[UUID]]:
    position = None
    while True:
        rows, slices_of = _select(change, conditions)
        page = read_page(
            rows, NEWEST_FIRST, limit=JOBS_PER_CHUNK, after=position, slices_of=slices_of, is_complete=True
        )
        if page.positions:
            yield page.ids
        if not page.has_more and page.stopped_at is None:
            return
        position = page.positions[-1] if page.has_more else page.stopped_at


_APPLY: dict[str, Callable[[Any, list[UUID]], list[UUID]]] = {
    "retry": lambda by, ids: retry(ids, passes_over_full=True),
    "cancel": lambda by, ids: list(cancel(ids, by=by)),
    "run_now": lambda by, ids: reschedule(ids),
}
