"""Record outcomes: the ends of jobs, their notifications and the numbers of both, in one transaction.

The signals of the jobs follow, and the ends of batches that are complete then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from notifications import streams
from notifications.db import bulk
from notifications.db.transactions import database, retrying_atomic
from notifications.extension import RecordedTransaction, hooks
from notifications.extension.calls import owing
from notifications.jobs import outcomes
from notifications.jobs.claiming import candidates
from notifications.jobs.end_signals import send_signals_of_ends
from notifications.jobs.notifying import (
    SHARE_REMEMBERED,
    call_hooks,
    insert_notifications,
    insert_returned,
    jobs_added,
    number,
    wake_workers,
)
from notifications.jobs.outcomes import Outcome
from notifications.jobs.owed_calls import run_owing
from notifications.jobs.results import policy_at
from notifications.jobs.transitions import batch_completion, notify_functions
from notifications.jobs.transitions.conditional_updates import lock_claims, update_locked_rows
from notifications.jobs.transitions.queueing import schedule_retries
from notifications.jobs.transitions.running import PROGRESS_COLUMNS, Claim, claim_of
from notifications.jobs.transitions.waiting import cancel_waits, suspend_jobs
from notifications.models import Attempt, Job
from notifications.states import States
from notifications.streams import building
from notifications.streams.carrying import Numbered

T = TypeVar("T")
logger = logging.getLogger("notifications.jobs")

#: How often to try to end a batch whose row another process holds, and the seconds between two tries. After that a
#: worker's maintenance ends it.
BATCH_TRIES, BATCH_RETRY_SECONDS = 5, 0.005
NOTHING_NUMBERED = Numbered([])
#: What the end of a job changes of its row.
END_COLUMNS = ("state", "result", "error", "finished_at", "seq", *PROGRESS_COLUMNS)
#: Locks rows, first in the transaction that may be repeated. Returns the outcomes to record and the database's time.
LockRows = Callable[[RecordedTransaction], tuple[Sequence[Outcome], datetime]]


def finish_jobs(group: Sequence[Outcome]) -> set[Claim]:
    """Record outcomes, send the signals, and end the batches that are complete.

    ``notify`` functions that were not called yet are called first, and waited for.

    Returns the claims whose outcomes are stored or void. The others must be tried again. Raises like
    ``record_outcomes``.
    """
    if any(outcome.notify for outcome in group):
        group = notify_functions.call_all(group)
    stored, void_outcomes = record_outcomes(group)
    _follow_ends(stored)
    for outcome in void_outcomes:
        # A batch has no worker: another process has ended it.
        if outcome.job.worker is not None:
            logger.warning(
                "Outcome is void: another worker has claimed job %s, or its end is stored already",
                outcome.job.id,
            )
    return {claim_of(outcome.job) for outcome in (*stored, *void_outcomes)}


def end_jobs(lock_rows: LockRows, **options: Any) -> list[Outcome]:
    """Record outcomes and return them as ``record()`` does, send the signals, and end batches that are complete."""
    recorded = record(lock_rows, **options)
    _follow_ends(recorded)
    return recorded


def _follow_ends(recorded: Sequence[Outcome]) -> None:
    ended = [outcome for outcome in recorded if outcome.is_end]
    send_signals_of_ends(ended)
    if batches := [outcome.job.batch for outcome in ended if outcome.job.batch]:
        finish_batches(batches)


def finish_batches(batches: Iterable[UUID]) -> None:
    """End those of these batches that have no active job any more, and store the progress of the others.

    Errors are logged, not raised: what this follows is committed already.
    """
    try:
        end_batches(batches)
    except Exception:
        logger.exception("Could not end batches, which a worker tries again.")


def end_batches(batches: Iterable[UUID]) -> None:
    """Do what ``finish_batches`` does, and raise errors."""
    if ended := batch_completion.collect_outcomes(batches):
        _finish_collected(notify_functions.record_apart(ended, _finish_collected))


def _finish_collected(ended: Sequence[Outcome]) -> None:
    """End batches. A worker tries those again whose end could not be recorded."""
    for _ in range(BATCH_TRIES):
        if not ended:
            break
        finished = finish_jobs(ended)
        # A process that stores the progress of a batch holds its row for a moment.
        if ended := [each for each in ended if claim_of(each.job) not in finished]:
            time.sleep(BATCH_RETRY_SECONDS)


def run_recording(write: Callable[[RecordedTransaction], T]) -> T:
    """Run a function that records attempts, but no ends, in a transaction of the app's own, and call the hooks."""
    tx = RecordedTransaction()

    def run() -> T:
        nonlocal tx
        tx = RecordedTransaction(has_run=True)
        result = write(tx)
        call_last(tx)
        return result

    result = run_owing(retrying_atomic, run)
    hooks.call_after_commit(tx)
    return result


def record_attempts(outcomes: Sequence[Outcome], tx: RecordedTransaction) -> None:
    """Insert the attempts of these outcomes that did not succeed, and what extensions add.

    Inside a transaction that holds the rows of the jobs locked, before they are changed; ``call_last`` ends it.
    """
    Attempt.objects.using(database()).bulk_create(
        [
            Attempt(
                job_id=outcome.job.id,
                number=outcome.job.attempt,
                worker=outcome.job.worker,
                started_at=outcome.job.started_at,
                ended_at=tx.now,
                outcome=outcome.attempt,
                exception_class_path=outcome.exception_class_path,
                traceback=outcome.traceback,
                location=outcome.location,
            )
            for outcome in outcomes
            if outcome.attempt
        ]
    )
    wake_workers(insert_returned(call_hooks(hooks.on_attempts, outcomes, tx)))


def call_last(tx: RecordedTransaction) -> None:
    """Let extensions execute the last statements of a transaction."""
    for hook in hooks.last:
        hook(tx)


def record_outcomes(group: Sequence[Outcome], **options: Any) -> tuple[list[Outcome], list[Outcome]]:
    """Record outcomes of running jobs as ``record`` does.

    Returns the stored outcomes and the void ones, whose jobs were claimed by another worker meanwhile. An outcome in
    neither list has a row that another transaction holds locked: try it again with the next group. Raises
    ``django.db.DataError`` or ``IntegrityError`` when the database refuses the group.

    ``options``
        Those of ``record``.
    """
    void_outcomes: list[Outcome] = []
    return record(lambda tx: _lock_claims(group, void_outcomes), **options), void_outcomes


class _Undone(Exception):
    """Rolls a transaction back that was a trial."""


def try_to_record(group: Sequence[Outcome]) -> None:
    """Raise what the database says of these outcomes. They are not recorded."""

    def write_and_undo(write: Callable[[], bool]) -> bool:
        def undone() -> bool:
            write()
            raise _Undone

        return retrying_atomic(undone)

    with suppress(_Undone):
        record_outcomes(group, run=write_and_undo)


def record(
    lock_rows: LockRows,
    *,
    run: Callable[[Callable[[], bool]], bool] = retrying_atomic,
    **options: Any,
) -> list[Outcome]:
    """Record outcomes with their attempts, notifications, rows of extensions and numbers in one transaction.

    What extensions add whose hooks fail is owed: see ``run_owing()``.

    ``run``
        Runs a function in a transaction of the app's own.
    ``options``
        Those of ``Recording``.

    Returns the outcomes that ``lock_rows`` returned.
    """
    recording = Recording(lock_rows=lock_rows, **options)
    has_more_to_number = run_owing(run, recording.write)
    hooks.call_after_commit(recording.tx)
    if has_more_to_number:
        streams.number_committed(owners_of(recording.outcomes) | recording.asked)
    return recording.outcomes


@dataclass(kw_only=True)
class Recording:
    """One transaction that records outcomes, from ``write()`` on.

    ``states``
        Those of the jobs before. Attempts are recorded of running jobs, and retries scheduled.
    ``columns``
        Columns of the jobs that are stored with their ends, besides those of every end.
    ``asked``
        The keys of the users whose notifications of waits have changed.
    """

    lock_rows: LockRows
    states: States = (Job.State.RUNNING,)
    columns: Sequence[str] = ()
    tx: RecordedTransaction = field(default_factory=RecordedTransaction)
    numbered: Numbered = NOTHING_NUMBERED
    outcomes: list[Outcome] = field(default_factory=list)
    asked: set[Any] = field(default_factory=set)

    def write(self) -> bool:
        """Write all of it, perhaps once more. Returns whether there is more to number than this transaction did."""
        self.numbered = NOTHING_NUMBERED
        self.tx, self.asked = RecordedTransaction(has_run=Job.State.RUNNING in self.states), set()
        outcomes, self.tx.now = self.lock_rows(self.tx)
        self.outcomes = list(outcomes)
        if self.tx.has_run:
            self._write_attempts(self.tx.now)
        ended = [outcome for outcome in self.outcomes if outcome.is_end]
        self._write_ends(ended, self.tx.now)
        has_more_to_number = number(self.asked | owners_of(o for o in ended if o.job.seq is None))
        with streams.uncounting_deleted([o.notification for o in ended if o.notification]):
            call_last(self.tx)
        # Jobs that have not run were read before they were locked.
        streams.ring(self.numbered.users, changes=self.numbered.changes() if self.tx.has_run else {})
        return has_more_to_number

    def _write_attempts(self, now: datetime) -> None:
        record_attempts(self.outcomes, self.tx)
        if retried := [outcome for outcome in self.outcomes if outcome.retry_delay is not None]:
            schedule_retries(retried, now)
        if suspended := [outcome for outcome in self.outcomes if outcome.waits]:
            self.asked |= suspend_jobs(suspended, now)

    def _write_ends(self, ended: Sequence[Outcome], now: datetime) -> None:
        jobs = [outcome.job for outcome in ended]
        waiting = [job.id for job in jobs if job.state == Job.State.WAITING]
        for outcome in ended:
            job = outcome.job
            job.state, job.result, job.error = outcome.state, outcome.result, outcome.error
            job.finished_at, job.seq = now, 0 if job.user_id is None else None
        notifications = [outcome.notification for outcome in ended if outcome.notification]
        self.tx.jobs = {o.notification.id: o.job for o in ended if o.notification}
        building.prepare(notifications, read=outcomes.find_own(ended, now))
        columns = (*END_COLUMNS, *self.columns)
        with bulk.one_round_trip(is_used=not owing.is_one_by_one):
            # Streams are locked once, in one order: in place only if no wait is closed after it.
            if not self.asked and not waiting:
                rows = [*(job for job in jobs if job.seq is None), *notifications]
                self.numbered = streams.number_new(rows) or NOTHING_NUMBERED
            stopped = [o for o in self.outcomes if o.is_end or o.job.state == Job.State.WAITING]
            returned = call_hooks(hooks.on_ends, stopped, self.tx) if stopped else []
            update_locked_rows(
                columns,
                list(zip(bulk.column_values(Job, columns, jobs), jobs, strict=True)),
                assignments=("version = version + 1", *(["waiting = NULL"] if waiting else [])),
                states=self.states,
            )
            inserted_jobs = [*insert_returned(returned), *insert_notifications(notifications, self.tx)]
        if ended:
            jobs_added["ends"] = max(len(inserted_jobs) / len(ended), SHARE_REMEMBERED * jobs_added["ends"])
        if waiting:
            self.asked |= cancel_waits(waiting, now)
        wake_workers(inserted_jobs)
        # The ring of a stream reaches neither those who wait for a job without a user, nor workers that wait for a
        # place under a limit.
        if any(job.seq == 0 for job in jobs) or candidates.has_limited_jobs(jobs):
            streams.ring((), queue=True)


def owners_of(group: Iterable[Outcome]) -> set[Any]:
    """Return the keys of the users to whom the jobs belong."""
    return {outcome.job.user_id for outcome in group if outcome.job.user_id is not None}


def _lock_claims(group: Sequence[Outcome], void_outcomes: list[Outcome]) -> tuple[list[Outcome], datetime]:
    """Lock the rows of a group. Sets ``void_outcomes`` to those whose claim does not hold any more.

    Returns the outcomes whose rows are locked now, and the database's time.
    """
    void_outcomes.clear()
    ordered = sorted(group, key=lambda outcome: outcome.job.id)
    claims = lock_claims([outcome.job for outcome in ordered])
    locked_outcomes = []
    for outcome in ordered:
        job = outcome.job
        if claims.is_void(job):
            void_outcomes.append(outcome)
        elif row := claims.rows.get(job.id):
            # Progress and requests of a cancellation raise the version of a job that runs. Also after a rollback:
            job.version, job.state, job.owner_acted_at = row.version, Job.State.RUNNING, row.owner_acted_at
            if row.cancel_requested_at and not outcome.is_end:
                # Requested while the outcome was on its way here. No notify function is called in a transaction.
                job.cancelled_by_other = row.cancelled_by_other
                outcome = replace(outcomes.cancelled(job, policy_at(job.task_path)), notify=None)
            locked_outcomes.append(outcome)
    return locked_outcomes, claims.now
