"""Retry, cancel or reschedule jobs, by their ids or all that a filter finds, in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from notifications.db import keyset
from notifications.db.keyset import NEWEST_FIRST
from notifications.db.transactions import database
from notifications.jobs.selection import JobFilter
from notifications.jobs.transitions import manual
from notifications.models import Job
from notifications.states import ACTIVE, CLAIMABLE, RETRYABLE

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
    """The jobs of one chunk: all that were found, and what those of them have become that were changed."""

    found: Sequence[UUID]
    changed: Mapping[UUID, str]


@dataclass(frozen=True, slots=True)
class JobChange:
    """A change of all jobs that meet conditions.

    ``name``
        ``"retry"``, ``"cancel"``, ``"run_now"`` or ``"reschedule"``.
    """

    name: str
    conditions: JobFilter

    def until(self, moment: datetime) -> JobChange:
        """Return the change of the jobs that it applies to at a moment: later ones are not meant."""
        until = min(self.conditions.created_until or moment, moment)
        finished_until = self.conditions.finished_until
        if self.name == "retry":
            finished_until = min(finished_until or moment, moment)
        return replace(
            self, conditions=replace(self.conditions, created_until=until, finished_until=finished_until)
        )

    def count(self) -> tuple[int, bool]:
        """Return how many jobs it applies to, and whether there may be more.

        Of the jobs in the states that it applies to, ``MAX_JOBS_COUNTED`` are read, whether they match or not.
        """
        total, left, is_partial = 0, MAX_JOBS_COUNTED, False
        for part in _parts(self.name, self.conditions):
            matching = _filter(self.name, part, Job.objects.using(database()))
            if (ids := part.few_ids()) is not None:
                total += keyset.count_rows(matching.filter(pk__in=ids), len(ids))
                continue
            for rows in part.selections():
                read = keyset.count_rows(rows, left + 1)
                is_partial = is_partial or read > left
                if left and read:
                    total += keyset.count_rows(matching, left, among=rows[:left])
                left = max(left - read, 0)
        return total, is_partial

    def has_observed_jobs(self) -> bool:
        """Return whether executions of Celery tasks are among the jobs that a retry would apply to."""
        rows = self.conditions.apply(Job.objects.using(database()))
        return bool(rows.filter(executor=Job.Executor.OBSERVED, state__in=RETRYABLE).exists())

    def run(
        self,
        *,
        by: Any = None,
        run_at: datetime | None = None,
        check_permission: Callable[[], None] = lambda: None,
    ) -> Iterator[ChangedJobs]:
        """Change the jobs, newest first, ``JOBS_PER_CHUNK`` at a time, and yield each chunk.

        A job whose owner has too many active jobs is not retried. Done again from the start it changes no job
        otherwise, because a changed job has left the states that it applies to, or gets the same time.

        ``by``
            The key of the user who changes them.
        ``run_at``
            When rescheduled jobs run.
        ``check_permission``
            Called before each chunk. What it raises ends the change.
        """
        for part in _parts(self.name, self.conditions):
            for ids in _read_ids(self.name, part):
                check_permission()
                yield change_jobs(self.name, ids, by=by, run_at=run_at, passes_over_full=True)


def change_jobs(
    change: str,
    ids: Sequence[UUID],
    *,
    by: Any = None,
    run_at: datetime | None = None,
    from_start: bool = False,
    passes_over_full: bool = False,
) -> ChangedJobs:
    """Change the jobs with these ids. The options are those of ``JobChange.run()``.

    ``from_start``
        Deletes the results of the steps of retried jobs.
    ``passes_over_full``
        Does not retry jobs of owners who have too many active ones. Otherwise they raise ``TooManyJobs``.
    """
    if change == "cancel":
        changed = manual.cancel(ids, by=by)
    elif change == "retry":
        queued = manual.retry(ids, passes_over_full=passes_over_full, from_start=from_start)
        changed = dict.fromkeys(queued, "queued")
    else:
        changed = dict.fromkeys(manual.reschedule(ids, run_at), change)
    return ChangedJobs(found=ids, changed=changed)


def _parts(change: str, conditions: JobFilter) -> list[JobFilter]:
    """Return the conditions for each state that the change applies to, because an index has the jobs of one state."""
    return [replace(conditions, state=state) for state in STATES[change] if conditions.state in ("", state)]


def applicable(change: str, rows: Any) -> Any:
    """Return those of some jobs to which a change applies."""
    return _of_change(change, rows.filter(state__in=STATES[change]))


def _filter(change: str, conditions: JobFilter, rows: Any) -> Any:
    return _of_change(change, conditions.apply(rows))


def _of_change(change: str, rows: Any) -> Any:
    if change == "run_now":
        rows = rows.filter(run_after__isnull=False)
    # Only Celery can run its tasks, at its time.
    return rows if change == "cancel" else rows.exclude(executor=Job.Executor.OBSERVED)


def _select(change: str, conditions: JobFilter) -> tuple[Any, Any]:
    rows = _filter(change, conditions, Job.objects.using(database()))
    return conditions.narrow(rows, is_exact=change == "cancel" and not conditions.finished_until)


def _read_ids(change: str, conditions: JobFilter) -> Iterator[list[UUID]]:
    position = None
    while True:
        rows, slices_of = _select(change, conditions)
        page = keyset.read_page(
            rows, NEWEST_FIRST, limit=JOBS_PER_CHUNK, after=position, slices_of=slices_of, is_complete=True
        )
        if page.positions:
            yield page.ids
        if not page.has_more and page.stopped_at is None:
            return
        position = page.positions[-1] if page.has_more else page.stopped_at
