"""End batches whose jobs are done, store the progress of the others, and have them run again after a retry.

The states of a batch's jobs are read after the commit of the jobs that were just finished. Of two processes that finish
the last two jobs at once, the one that reads later sees both ended. If both see it, the condition on the batch's row
lets one of them end the batch. No process waits for a lock.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, Q
from django.utils import translation
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications import streams, times
from notifications.db import project_code
from notifications.db.bulk import lock_query
from notifications.db.clock import database_now
from notifications.db.transactions import chunks, connection, database, retrying_atomic
from notifications.exceptions import JobFailed
from notifications.jobs import outcomes
from notifications.jobs.declaring.policies import Policy
from notifications.jobs.outcomes import Outcome, _language, announcement, failure
from notifications.jobs.transitions.conditional_updates import (
    conditional_update,
    store_own_act,
    update_locked_rows,
)
from notifications.models import Job
from notifications.states import ACTIVE, CANCELLED_AT_ONCE, DONE, RETRYABLE

#: The path of the task of all batches.
BATCH = "notifications.jobs.batches.batch"
#: What is set for batches that run again.
REOPEN_ASSIGNMENTS = (
    "state = 'running', seq = 0, version = version + 1, fence = fence + 1",
    "attempt = attempt + 1, max_attempts = attempt + 1, result = NULL, error = NULL, finished_at = NULL",
    "cancel_requested_at = NULL, cancelled_by_other = FALSE, progress_current = 0, progress_message = ''",
)
#: Seconds between two times that one process stores the progress of one batch.
PROGRESS_INTERVAL_SECONDS = 0.5
MAX_BATCHES_REMEMBERED = 1_000
#: Batches that one query reads, and one transaction writes, at most.
MAX_BATCHES_PER_QUERY = 100

#: When this process last stored the progress of a batch (monotonic), by its id.
_stored_at: dict[UUID, float] = {}
#: Batches whose jobs have ended since then.
_with_unstored_progress: set[UUID] = set()


def new_batch(**fields: Any) -> Job:
    """Return the row of a new batch. No worker claims it: it runs from its insertion on."""
    now = times.now()
    return Job(
        task_path=BATCH,
        state=Job.State.RUNNING,
        attempt=1,
        max_attempts=1,
        progress_current=0,
        created_at=now,
        queued_at=now,
        started_at=now,
        **fields,
    )


def collect_outcomes(batches: Iterable[UUID]) -> list[Outcome]:
    """Return the outcomes of those of these batches that have no active job; store the progress of the others."""
    ids = sorted(set(batches))
    return [outcome for chunk in chunks(ids, MAX_BATCHES_PER_QUERY) for outcome in _collect_outcomes(chunk)]


def _collect_outcomes(ids: Sequence[UUID]) -> list[Outcome]:
    # The states are read before the row of the batch: after the last job, another process may end it in between.
    active = _find_with_active_jobs(ids)
    _store_progress(active)
    complete = [id for id in ids if id not in active]
    _forget(complete)
    if not complete:
        return []
    rows = list(running_batches().filter(id__in=complete))
    counted = count_states(job.id for job in rows)
    # A job that was retried by hand since the first query is active again; its end completes the batch.
    return [
        project_code.call(f"outcome of batch {job.id}:", _outcome, job, counted[job.id])
        or outcomes.fallback(job)
        for job in rows
        if not any(counted[job.id][state] for state in ACTIVE)
    ]


def _find_with_active_jobs(ids: Sequence[UUID]) -> set[UUID]:
    active = Job.objects.using(database()).filter(batch=OuterRef("id"), state__in=ACTIVE)
    return set(running_batches().filter(Exists(active), id__in=ids).values_list("id", flat=True))


def remaining_condition() -> tuple[str, Sequence[Any]]:
    """Return SQL that is true if ``find_remaining_batches`` may find something, and its parameters."""
    return "EXISTS (SELECT 1 FROM notifications_job WHERE state = 'running' AND worker IS NULL)", ()


def find_remaining_batches() -> set[UUID]:
    """Return the batches that are complete but not ended, and those with progress that is not stored."""
    active = Job.objects.using(database()).filter(batch=OuterRef("id"), state__in=ACTIVE)
    complete = running_batches().filter(~Exists(active)).values_list("id", flat=True)
    return {*complete, *_with_unstored_progress}


def jobs_to_cancel(batches: Sequence[UUID]) -> list[UUID]:
    """Return the ids of active jobs inside batches that are cancelled, whose own cancellation is not requested."""
    jobs = Job.objects.using(database()).filter(batch__in=batches, state__in=ACTIVE)
    # A running job whose cancellation was requested, and that its worker then released, may be of a paused queue: no
    # worker would claim it.
    jobs = jobs.filter(Q(cancel_requested_at=None) | Q(state__in=CANCELLED_AT_ONCE))
    return list(jobs.order_by("id").values_list("id", flat=True))


def find_jobs_to_cancel() -> Iterator[UUID]:
    """Yield the ids of jobs inside batches whose cancellation was interrupted."""
    requested = running_batches().filter(cancel_requested_at__isnull=False)
    for batch in list(requested.values_list("id", flat=True)):
        yield from jobs_to_cancel([batch])


def find_nested_batches(batches: Iterable[UUID]) -> set[UUID]:
    """Return these batches and the running ones inside them, at any depth."""
    found = new = set(batches)
    while new:
        new = set(running_batches().filter(batch__in=new).values_list("id", flat=True)) - found
        found = found | new
    return found


def read_batch_owners(jobs: Iterable[Any]) -> dict[UUID, Any]:
    """Map the id of each job without a user to the owner of the nearest enclosing batch that has one, else None."""
    unowned = [job for job in jobs if job.batch is not None and job.user_id is None]
    owners: dict[Any, Any] = {}
    batches = {job.batch for job in unowned}
    while batches:
        rows = Job.objects.using(database()).filter(pk__in=batches).values_list("id", "user_id", "batch")
        owners |= {id: (user, outer) for id, user, outer in rows}
        batches = {outer for user, outer in owners.values() if user is None and outer} - owners.keys()
    found: dict[UUID, Any] = {}
    for job in unowned:
        user, outer = owners.get(job.batch, (None, None))
        while user is None and outer in owners:
            user, outer = owners[outer]
        found[job.id] = user
    return found


def is_batch(job: Job) -> bool:
    return job.task_path == BATCH


def read_parents(ids: Iterable[UUID]) -> dict[UUID, UUID]:
    """Map those of these jobs that are in a batch, and the batches around them at any depth, to the batch of each."""
    parents: dict[UUID, UUID] = {}
    new = set(ids)
    while new:
        rows = Job.objects.using(database()).filter(id__in=new, batch__isnull=False)
        found = dict(rows.values_list("id", "batch"))
        parents |= found
        new = set(found.values()) - parents.keys()
    return parents


def enclosing_batches(ids: Iterable[UUID], parents: Mapping[UUID, UUID]) -> set[UUID]:
    """Return the batches around these jobs, at any depth, from the batch of each (``read_parents``)."""
    batches: set[UUID] = set()
    for id in ids:
        batch = parents.get(id)
        while batch is not None and batch not in batches:
            batches.add(batch)
            batch = parents.get(batch)
    return batches


def reopen_batches(batches: Sequence[Any], by: Any) -> list[UUID]:
    """Have batches run again whose rows are locked, and return those that had ended.

    The end of one that runs, if it is under way, has counted the jobs as they were before this retry: it is void.
    """
    if not batches:
        return []
    running = [batch for batch in batches if batch.state == Job.State.RUNNING]
    ended = [batch for batch in batches if batch.state in RETRYABLE]
    now = times.to_db(times.now(), connection())
    update_locked_rows((), [((), batch) for batch in running], assignments=("fence = fence + 1",))
    update_locked_rows(
        ("queued_at", "started_at"),
        [((now, now), batch) for batch in ended],
        assignments=REOPEN_ASSIGNMENTS,
        states=RETRYABLE,
    )
    store_own_act(ids := [batch.id for batch in ended], by, database_now())
    streams.ring([batch.user_id for batch in ended])
    return ids


def running_batches() -> Any:
    """Return a query of the batches that are not done: the running jobs without a worker."""
    return Job.objects.using(database()).filter(state=Job.State.RUNNING, worker__isnull=True)


def _store_progress(ids: Iterable[UUID]) -> None:
    """Store the progress of those of these batches that are due, and remember the others."""
    now = time.monotonic()
    due = []
    for id in sorted(ids):
        if now - _stored_at.get(id, -math.inf) < PROGRESS_INTERVAL_SECONDS:
            _with_unstored_progress.add(id)
        else:
            due.append(id)
    if not due:
        return
    if len(_stored_at) >= MAX_BATCHES_REMEMBERED:
        _stored_at.clear()  # batches that other processes have ended stay in it
    _stored_at.update(dict.fromkeys(due, now))
    _with_unstored_progress.difference_update(due)
    counted = count_states(due)

    def write() -> None:
        updates = []
        for job in lock_query(running_batches().filter(id__in=due).order_by("id")):
            counts = counted[job.id]
            done = sum(counts[state] for state in counts if state in DONE)
            # Of two processes the one that counted first, and fewer, may write last.
            if (job.progress_current or 0) < done:
                updates.append(((done, sum(counts.values()), _progress_message(job, counts)), job))
        conditional_update(
            "progress_current=%s, progress_total=%s, progress_message=%s, version=version+1", updates
        )
        streams.ring(job.user_id for _, job in updates)

    retrying_atomic(write)


def _forget(ids: Iterable[UUID]) -> None:
    for id in ids:
        _stored_at.pop(id, None)
        _with_unstored_progress.discard(id)


def count_states(ids: Iterable[UUID]) -> dict[UUID, Counter[Any]]:
    """Return how many jobs these batches have in each state."""
    counted: dict[UUID, Counter[Any]] = {id: Counter() for id in ids}
    rows = Job.objects.using(database()).filter(batch__in=list(counted)).order_by()
    for row in rows.values("batch", "state").annotate(jobs=Count("id")):
        counted[row["batch"]][row["state"]] = row["jobs"]
    return counted


def _progress_message(job: Job, counts: Counter[Any]) -> str:
    failed = counts[Job.State.FAILED]
    if not failed:
        return ""
    with translation.override(job.language or None):
        return ngettext("%(count)d failed", "%(count)d failed", failed) % {"count": failed}


def _outcome(job: Job, counts: Counter[Any]) -> Outcome:
    """Return the outcome of a batch. It calls code of the project, a translation for example."""
    policy = _read_policy(job)
    job.progress_total = sum(counts.values())
    job.progress_current, job.progress_message = job.progress_total, ""
    if job.cancel_requested_at and counts[Job.State.CANCELLED]:
        return outcomes.cancelled(job, policy)
    return of_batch(
        job,
        policy,
        succeeded=counts[Job.State.SUCCEEDED],
        failed=counts[Job.State.FAILED],
        cancelled=counts[Job.State.CANCELLED],
    )


def _read_policy(job: Job) -> Policy:
    notify = json.loads(job.kwargs)["notify"]
    return Policy(notify=_FunctionAt(notify) if isinstance(notify, str) else notify)


class _FunctionAt:
    """The function at a dotted path, which is imported when it is called."""

    def __init__(self, path: str) -> None:
        self.__module__, _, self.__qualname__ = path.rpartition(".")  # for the log

    def __call__(self, *args: Any) -> Any:
        return import_string(f"{self.__module__}.{self.__qualname__}")(*args)


def of_batch(job: Job, policy: Policy, *, succeeded: int, failed: int, cancelled: int) -> Outcome:
    """Return the outcome of a batch that has no active job any more, from the number of jobs in each state."""
    total = succeeded + failed + cancelled
    with _language(job):
        if succeeded == total:
            body = ngettext("%(count)d job succeeded.", "All %(count)d jobs succeeded.", total) % {
                "count": total
            }
            value = {str(state): succeeded if state == Job.State.SUCCEEDED else 0 for state in DONE}
            fields = announcement(job, policy, Job.State.SUCCEEDED, value, None, body=body)
            return Outcome(job=job, state=Job.State.SUCCEEDED, result=json.dumps(value), **fields)
        detail = describe_counts(succeeded=succeeded, failed=failed, cancelled=cancelled)
    return failure(job, policy, "batch-failed", JobFailed({"detail": detail}), detail)


def describe_counts(*, succeeded: int, failed: int, cancelled: int) -> str:
    """Return what came of the jobs of a batch: "10 of 12 done, 2 failed"."""
    parts = [_("%(count)d of %(total)d done") % {"count": succeeded, "total": succeeded + failed + cancelled}]
    if failed:
        parts.append(ngettext("%(count)d failed", "%(count)d failed", failed) % {"count": failed})
    if cancelled:
        parts.append(ngettext("%(count)d cancelled", "%(count)d cancelled", cancelled) % {"count": cancelled})
    return ", ".join(parts)
