"""Retry, cancel or reschedule jobs by their ids, and which jobs of a filter that applies to, for ``JobFilter``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from notifications.db import keyset
from notifications.db.keyset import NEWEST_FIRST
from notifications.db.transactions import database
from notifications.lazy_names import LateModule
from notifications.models import Job
from notifications.states import ACTIVE, CLAIMABLE, RETRYABLE

if TYPE_CHECKING:
    from notifications.jobs.transitions import manual
else:
    manual = LateModule("notifications.jobs.transitions.manual")

#: Jobs that are changed between two reports of progress.
JOBS_PER_CHUNK = 1_000

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


def change_jobs(
    change: str,
    ids: Sequence[UUID],
    *,
    by: Any = None,
    run_at: datetime | None = None,
    from_start: bool = False,
    passes_over_full: bool = False,
) -> ChangedJobs:
    """Change the jobs with these ids. The options are those of ``JobFilter.change()``.

    ``from_start``
        Deletes the results of the steps of retried jobs.
    ``passes_over_full``
        Does not retry jobs of owners who have too many active ones. Otherwise they raise ``TooManyJobs``.
    """
    if change == "cancel":
        changed = manual.cancel(ids, by=by)
    elif change == "retry":
        queued = manual.retry(ids, by=by, passes_over_full=passes_over_full, from_start=from_start)
        changed = dict.fromkeys(queued, "queued")
    else:
        changed = dict.fromkeys(manual.reschedule(ids, run_at), change)
    return ChangedJobs(found=ids, changed=changed)


def parts_of(change: str, conditions: Any) -> list[Any]:
    """Return a ``JobFilter`` for each state that the change applies to, because an index has the jobs of one state."""
    return [replace(conditions, state=state) for state in STATES[change] if conditions.state in ("", state)]


def applicable(change: str, rows: Any) -> Any:
    """Return those of some jobs to which a change applies."""
    return _of_change(change, rows.filter(state__in=STATES[change]))


def find_changeable(change: str, conditions: Any) -> Any:
    """Return a queryset of the jobs that meet the conditions and to which a change applies, whatever their states."""
    return _of_change(change, conditions.apply(Job.objects.using(database())))


def _of_change(change: str, rows: Any) -> Any:
    return rows.filter(due_at__isnull=False) if change == "run_now" else rows


def _select(change: str, conditions: Any) -> tuple[Any, Any]:
    rows = find_changeable(change, conditions)
    return conditions.narrow(rows, is_exact=change == "cancel" and not conditions.finished_until)


def read_chunks(change: str, conditions: Any) -> Iterator[list[UUID]]:
    """Yield the ids of the jobs that a change applies to, newest first, ``JOBS_PER_CHUNK`` at a time."""
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
