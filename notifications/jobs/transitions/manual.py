"""Cancel jobs, retry them and choose when they run, by hand: from a page, the API, the admin or a command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from django.utils.translation import get_language

from notifications import streams, times
from notifications.db import bulk
from notifications.db.bulk import lock_query, lock_sql
from notifications.db.clock import database_now
from notifications.db.transactions import (
    connection,
    database,
    execute_many,
    fair_atomic,
    in_callers_transaction,
    on_commit,
    retrying_atomic,
)
from notifications.extension import RecordedTransaction
from notifications.jobs import limits, outcomes
from notifications.jobs.claiming.executors import executor_at
from notifications.jobs.declaring.policies import Policy
from notifications.jobs.notifying import record_change
from notifications.jobs.outcomes import Outcome
from notifications.jobs.results import policy_at
from notifications.jobs.transitions import batch_completion, notify_functions
from notifications.jobs.transitions.conditional_updates import (
    chunks_of,
    conditional_update,
    limit_lock_wait,
    prepare_id,
    ring_queued,
    store_own_act,
    update_locked_rows,
)
from notifications.jobs.transitions.queueing import RetryOptions
from notifications.jobs.transitions.recording import end_jobs, finish_batches
from notifications.jobs.transitions.waiting import delete_waits
from notifications.jobs.turns import TURN_COLUMNS, next_places
from notifications.models import Job
from notifications.states import ACTIVE, CANCELLED_AT_ONCE, RETRYABLE, sql_list

#: What is read of jobs that are retried, and what is set for all of them.
RETRY_COLUMNS = ("id", "user_id", "task_path", "state", "attempt", "fence", *TURN_COLUMNS)
RETRY_ASSIGNMENTS = (
    "state = 'queued', seq = 0, version = version + 1, fence = fence + 1, run_after = NULL, expires_at = NULL",
    "due_at = NULL, limit_turn = NULL, worker = NULL, deadline = NULL, fail_if_unknown_after = NULL, result = NULL",
    "error = NULL, cancel_requested_at = NULL, cancelled_by_other = FALSE",
    "finished_at = NULL, retries = 0, progress_current = NULL, progress_total = NULL, progress_message = ''",
)

T = TypeVar("T")


def cancel(ids: Iterable[UUID], *, by: Any = None) -> dict[UUID, str]:
    """Cancel queued and waiting jobs, and request the cancellation of running ones.

    ``by``
        The key of the user who cancels, or None. The owner of a job is notified unless it is the same user.

    Returns ``"cancelled"`` or ``"asked"`` for each job; jobs that are done or do not exist are left out. Inside a
    caller's transaction jobs are cancelled after its commit. Raises ``django.db.OperationalError`` where another
    transaction holds a row for over 5 s.
    """
    ids = sorted({id if isinstance(id, UUID) else UUID(id) for id in ids})
    return _call_after_commit(lambda: _cancel(ids, by), dict.fromkeys(ids, "asked"))


def retry(
    ids: Iterable[UUID], *, by: Any = None, passes_over_full: bool = False, from_start: bool = False
) -> list[UUID]:
    """Queue failed and cancelled jobs again, with as many more attempts as the policies of their tasks allow.

    ``by``
        The key of the user who retries, or None. The owner of a job knows of what follows within a minute.
    ``passes_over_full``
        Leaves out jobs whose owners have too many active jobs, instead of raising.
    ``from_start``
        Deletes the results of their steps, so that all calls are made again.

    Returns the ids of the queued jobs. Inside a caller's transaction jobs are queued after its commit. Raises
    ``TooManyJobs``, and ``django.db.OperationalError`` like ``cancel``.
    """
    ids = sorted(set(ids))
    return _call_after_commit(lambda: _retry(ids, RetryOptions(by, passes_over_full, from_start)), ids)


def reschedule(ids: Iterable[UUID], run_at: datetime | None = None) -> list[UUID]:
    """Schedule queued jobs for a time. Without one, have those that are scheduled join the queue at once.

    Returns the ids of the changed jobs. Inside a caller's transaction it is done after its commit. Raises
    ``django.db.OperationalError`` like ``cancel``.
    """
    ids = sorted(set(ids))
    return _call_after_commit(lambda: _reschedule(ids, run_at), ids)


def resume_cancellation(ids: Collection[UUID]) -> list[UUID]:
    """Cancel these jobs, or request it of those that run. Return the jobs of batches among these, to be cancelled."""
    results: dict[UUID, str] = {}
    changed = _cancel_chunk(list(ids), None, results, more_follows=True)
    requested = [id for id, result in results.items() if result == "asked"]
    return changed + batch_completion.jobs_to_cancel(requested)


def _call_after_commit(change: Callable[[], T], expected: T) -> T:
    """Call a function; inside a caller's transaction after its commit, and return what is expected of it."""
    if in_callers_transaction():
        on_commit(change)
        return expected
    return change()


def _cancel(ids: Sequence[UUID], by: Any) -> dict[UUID, str]:
    results: dict[UUID, str] = {}
    for chunk in chunks_of(ids):
        remaining = chunk
        while remaining:
            remaining = _cancel_chunk(remaining, by, results, more_follows=len(ids) > len(chunk))
    if requested := [id for id, result in results.items() if result == "asked"]:
        _cancel_jobs_of(requested, by)
    return results


def _cancel_jobs_of(batches: Sequence[UUID], by: Any) -> None:
    """Cancel the jobs inside batches. Ids of other jobs have no effect."""
    _cancel(batch_completion.jobs_to_cancel(batches), by)
    finish_batches(batch_completion.running_batches().filter(id__in=batches).values_list("id", flat=True))


def _cancel_chunk(
    ids: list[UUID], by: Any, results: dict[UUID, str], *, more_follows: bool = False
) -> list[UUID]:
    """Cancel jobs, and add to ``results``. Returns the ids of the jobs that another transaction changed meanwhile."""
    prepare = prepare_id()
    of_ids, params = bulk.where_in(Job, "id", [prepare(id) for id in ids])
    active = f"WHERE {of_ids} AND state IN ({sql_list(ACTIVE)}) ORDER BY id"
    jobs = bulk.select_rows(Job, active, params)
    # Outcomes call translations and the task's policy, so they are made before the transaction. A running job is only
    # asked to end: its notify function is called when it has.
    idle = [job for job in jobs if job.state in CANCELLED_AT_ONCE]
    policies = {path: policy_at(path) for path in {job.task_path for job in idle}}
    made = notify_functions.call_all([_cancelled(job, policies[job.task_path], by) for job in idle])
    prepared = {prepare(outcome.job.id): outcome for outcome in made}
    read = {prepare(job.id): job.id for job in jobs}
    running: list[Job] = []
    changed: list[UUID] = []

    def lock_rows(tx: RecordedTransaction) -> tuple[list[Outcome], datetime]:
        running.clear()
        changed.clear()
        ended: list[Outcome] = []
        limit_lock_wait()
        lock = f"SELECT id, state, fence, version FROM notifications_job {active}"
        [locked] = execute_many([(lock + lock_sql(skip_locked=False), params)])
        started: list[UUID] = []
        for id, state, fence, version in locked:
            if id not in read:
                continue  # became active after it was read
            outcome = prepared.get(id)
            if state == Job.State.RUNNING:
                started.append(read[id])
            elif outcome and fence == outcome.job.fence:
                outcome.job.state, outcome.job.version = state, version
                ended.append(outcome)
            else:
                changed.append(read[id])
        if started:
            running.extend(Job.objects.using(database()).filter(id__in=started).order_by("id"))
        now = database_now()
        for outcome in ended:
            outcome.job.cancel_requested_at = now
        requested = [(job, _is_by_other(job, by)) for job in running if job.cancel_requested_at is None]
        conditional_update(
            "cancel_requested_at=%s, cancelled_by_other=%s, version=version+1",
            [((now, by_other), job) for job, by_other in requested],
        )
        # Workers read requested cancellations when the queue rings.
        streams.ring([job.user_id for job, _ in requested], queue=bool(requested or ended))
        return ended, now

    ended = end_jobs(
        lock_rows,
        states=CANCELLED_AT_ONCE,
        columns=("cancel_requested_at", "cancelled_by_other", "language"),
        run=partial(fair_atomic, more_follows=more_follows),
    )
    results.update((outcome.job.id, "cancelled") for outcome in ended)
    results.update((job.id, "asked") for job in running)
    return changed


def _cancelled(job: Job, policy: Policy, by: Any) -> Outcome:
    if job.cancel_requested_at is None:
        job.cancelled_by_other = _is_by_other(job, by)
        if by is not None and job.user_id == by:  # What follows is in the language of the owner's request.
            job.language = get_language() or job.language
    return outcomes.cancelled(job, policy)


def _is_by_other(job: Job, by: Any) -> bool:
    return job.user_id is not None and job.user_id != by


def _retry(ids: Sequence[UUID], options: RetryOptions) -> list[UUID]:
    queued: list[UUID] = []
    for chunk in chunks_of(ids):
        rows = Job.objects.using(database()).filter(id__in=chunk, state__in=RETRYABLE).order_by("id")
        jobs = list(rows.values_list(*RETRY_COLUMNS, named=True))
        batches = [job for job in jobs if batch_completion.is_batch(job)]
        queued += [job.id for job in batches if _retry_batch(job, options)]
        # Reading a policy may import the task's module, so it is done before the transaction.
        others = [job for job in jobs if job not in batches]
        attempts = {path: policy_at(path).max_attempts for path in {job.task_path for job in others}}
        executors = {job.id: executor_at(job.task_path) for job in others}
        parents = batch_completion.read_parents(executors)
        again = fair_atomic(partial(_queue_again, attempts, executors, parents, options))
        finish_batches(batch_completion.enclosing_batches(again, parents))
        queued += again
    return queued


def _queue_again(
    attempts: Mapping[str, int],
    executors: Mapping[UUID, str],
    parents: Mapping[UUID, UUID],
    options: RetryOptions,
) -> list[UUID]:
    """Queue those of these jobs again that are done, and have the batches around them run again, at any depth.

    ``attempts``
        How many attempts more than they have had, by task path.
    ``executors``
        The executors of the jobs, by id.
    ``parents``
        The batches of the jobs and of these batches, by id.
    """
    locked = _lock_rows({*executors, *parents.values()})
    # Without instances of the model, which take half of the time for which SQLite's lock is held.
    jobs = [job for job in locked if job.id in executors and job.state in RETRYABLE]
    owned = Counter(job.user_id for job in jobs if job.user_id is not None)
    if options.passes_over_full:
        left = limits.read_places(owned)
        jobs = [job for job in jobs if job.user_id is None or _take_place(left, job.user_id)]
    else:
        for user, count in owned.items():
            limits.raise_if_exceeded(user, count)
    now = times.to_db(times.now(), connection())
    changes = []
    places = next_places(jobs, [executors[job.id] for job in jobs])
    for job, place in zip(jobs, places, strict=True):
        changes.append(((job.attempt + attempts[job.task_path], executors[job.id], now, *place), job))
    update_locked_rows(
        ("max_attempts", "executor", "queued_at", "share_name", "turn"),
        changes,
        assignments=RETRY_ASSIGNMENTS,
        states=RETRYABLE,
    )
    ids = [job.id for job in jobs]
    store_own_act(ids, options.by, database_now())
    delete_waits(ids, from_start=options.from_start)
    record_change("restarted" if options.from_start else "retried", ids)
    ring_queued(jobs)
    enclosing = batch_completion.enclosing_batches(ids, parents)
    batch_completion.reopen_batches([row for row in locked if row.id in enclosing], options.by)
    return ids


def _lock_rows(ids: Collection[UUID]) -> list[Any]:
    """Lock those of these jobs that run, or can be retried, and return them by id."""
    limit_lock_wait()
    rows = Job.objects.using(database()).filter(id__in=ids, state__in=(Job.State.RUNNING, *RETRYABLE))
    return list(lock_query(rows.order_by("id"), skip_locked=False).values_list(*RETRY_COLUMNS, named=True))


def _take_place(left: dict[Any, int], user: Any) -> bool:
    """Return whether a user may have one more active job, and count it."""
    left[user] -= 1
    return left[user] >= 0


def _retry_batch(batch: Job, options: RetryOptions) -> bool:
    """Retry the failed and cancelled jobs of a batch, and have it run again. Returns whether it does."""
    if batch.user_id is not None:
        # Before a job of the batch is queued.
        if not options.passes_over_full:
            limits.raise_if_exceeded(batch.user_id)
        elif not limits.read_places([batch.user_id])[batch.user_id]:
            return False
    jobs = Job.objects.using(database()).filter(batch=batch.id, state__in=RETRYABLE)
    if ids := list(jobs.order_by("id").values_list("id", flat=True)):
        # If all are passed over, the batch would end again as it is.
        return bool(_retry(ids, options))
    batches = {batch.id, *batch_completion.read_parents([batch.id]).values()}
    is_reopened = retrying_atomic(
        lambda: batch.id in batch_completion.reopen_batches(_lock_rows(batches), options.by)
    )
    finish_batches(batches)
    return is_reopened


def _reschedule(ids: Sequence[UUID], run_at: datetime | None) -> list[UUID]:
    rows = Job.objects.using(database()).filter(state=Job.State.QUEUED).order_by("id")
    rows = rows if run_at else rows.filter(due_at__isnull=False)
    moment = run_at and times.to_db(times.as_utc(run_at), connection())

    def write(chunk: list[UUID]) -> list[UUID]:
        limit_lock_wait()
        locked = lock_query(rows.filter(id__in=chunk), skip_locked=False)
        jobs = list(locked.values_list("id", "user_id", "fence", *TURN_COLUMNS, "task_path", named=True))
        later = [(job.share_name, 0) for job in jobs]  # they have no turn
        places = later if run_at else next_places(jobs, [job.executor for job in jobs])
        update_locked_rows(
            ("run_after", "due_at", "limit_turn", "share_name", "turn"),
            [((moment, moment, None, *place), job) for job, place in zip(jobs, places, strict=True)],
            assignments=("fail_if_unknown_after = NULL, expires_at = NULL", "version = version + 1"),
            states=(Job.State.QUEUED,),
        )
        if run_at:
            streams.ring([job.user_id for job in jobs], queue=bool(jobs))
        else:
            ring_queued(jobs)
        return [job.id for job in jobs]

    return [id for chunk in chunks_of(ids) for id in fair_atomic(lambda chunk=chunk: write(chunk))]  # type: ignore[misc]
