"""Retry, cancel or run all jobs that a filter finds, in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from notifications.db import keyset
from notifications.db.transactions import database
from notifications.exceptions import TooManyJobs
from notifications.jobs.matching import NEWEST_FIRST, JobFilter
from notifications.jobs.transitions import manual
from notifications.models import Job

#: Jobs that are changed between two reports of progress.
JOBS_PER_CHUNK = 200
#: Jobs are counted up to this number before they are changed.
MAX_JOBS_COUNTED = 10_000

#: The states of the jobs that each change applies to.
STATES: dict[str, Any] = {
    "retry": manual.RETRYABLE_STATES,
    "cancel": manual.ACTIVE_STATES,
    "run_now": (Job.State.QUEUED,),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangedJobs:
    """The jobs of one chunk: all that were found, and those of them that were changed."""

    found: list[UUID]
    changed: list[UUID]


def count_jobs(change: str, conditions: JobFilter) -> tuple[int, bool]:
    """Return how many jobs a change applies to, and whether there may be more: they are counted up to a limit."""
    total, is_partial = 0, False
    for part in _parts(change, conditions):
        rows, slices_of = _select(change, part)
        page = keyset.read_page(rows, NEWEST_FIRST, limit=MAX_JOBS_COUNTED, slices_of=slices_of)
        total += len(page.positions)
        is_partial = is_partial or page.has_more or page.stopped_at is not None
    return total, is_partial


def has_observed_jobs(conditions: JobFilter) -> bool:
    """Return whether executions of Celery tasks are among the jobs that a retry would apply to."""
    rows = conditions.apply(Job.objects.using(database()))
    return bool(rows.filter(lane=Job.Lane.OBSERVED, state__in=manual.RETRYABLE_STATES).exists())


def conditions_until(change: str, conditions: JobFilter, moment: datetime) -> JobFilter:
    """Return the conditions of jobs that a change applies to at a moment: later ones are not meant."""
    until = min(conditions.created_until or moment, moment)
    return replace(conditions, created_until=until, finished_until=moment if change == "retry" else None)


def change_jobs(change: str, conditions: JobFilter, *, by: Any) -> Iterator[ChangedJobs]:
    """Change all jobs that meet the conditions, newest first, ``JOBS_PER_CHUNK`` at a time. Yields each chunk.

    ``change``
        ``"retry"``, ``"cancel"`` or ``"run_now"``.
    ``by``
        The key of the user who changes them.

    A job whose owner has too many active jobs is not retried. Done again from the start it changes no job twice,
    because a changed job has left the states that it applies to.
    """
    apply = _APPLY[change]
    full_users: set[Any] = set()
    for part in _parts(change, conditions):
        for ids in _read_ids(change, part):
            yield ChangedJobs(found=ids, changed=apply(ids, by, full_users))


def _parts(change: str, conditions: JobFilter) -> list[JobFilter]:
    """Return the conditions for each state that the change applies to, because an index has the jobs of one state."""
    return [replace(conditions, state=state) for state in STATES[change] if conditions.state in ("", state)]


def _select(change: str, conditions: JobFilter) -> tuple[Any, Any]:
    rows = conditions.apply(Job.objects.using(database()))
    is_exact = True
    if change == "run_now":
        rows, is_exact = rows.filter(run_after__isnull=False), False
    elif change == "retry":  # only Celery can run its tasks
        rows, is_exact = rows.exclude(lane=Job.Lane.OBSERVED), False
    return conditions.narrow(rows, is_exact=is_exact and not conditions.finished_until)


def _read_ids(change: str, conditions: JobFilter) -> Iterator[list[UUID]]:
    position = None
    while True:
        rows, slices_of = _select(change, conditions)
        page = keyset.read_page(rows, NEWEST_FIRST, limit=JOBS_PER_CHUNK, after=position, slices_of=slices_of)
        if page.positions:
            yield page.ids
        if not page.has_more and page.stopped_at is None:
            return
        position = page.positions[-1] if page.has_more else page.stopped_at


def _retry(ids: list[UUID], by: Any, full_users: set[Any]) -> list[UUID]:
    fences = dict(Job.objects.using(database()).filter(pk__in=ids).values_list("pk", "fence"))
    try:
        return manual.retry(ids)
    except TooManyJobs:
        # The chunks of manual.retry() before the one that raised are committed.
        rows = Job.objects.using(database()).filter(pk__in=ids).order_by("id")
        changed = []
        for id, fence, user in list(rows.values_list("pk", "fence", "user_id")):
            if fence != fences.get(id):
                changed.append(id)
            elif user not in full_users:
                try:
                    changed += manual.retry([id])
                except TooManyJobs:
                    full_users.add(user)
        return changed


_APPLY: dict[str, Callable[[list[UUID], Any, set[Any]], list[UUID]]] = {
    "retry": _retry,
    "cancel": lambda ids, by, full_users: list(manual.cancel(ids, by=by)),
    "run_now": lambda ids, by, full_users: manual.run_now(ids),
}
