"""What an app calls that observes the tasks of another queue."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from notifications.jobs import outcomes
from notifications.jobs.declaring.policies import Policy
from notifications.jobs.notifying import jobs_added
from notifications.jobs.observed import changes, recording
from notifications.jobs.observed.recording import Hold
from notifications.jobs.observed.starts import ObservedAttempt
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions import claims, notify_functions
from notifications.jobs.transitions.claims import claim_of
from notifications.models import Job


class Observer:
    """Records what is reported of tasks that workers of another queue execute.

    Their jobs have the executor ``observed``.

    ``hold``
        Called with an attempt and the error of a hook of an extension which failed at it: when is it to be recorded
        again? Until then ``record()`` is not called with it.

    A report that comes twice, late, or after its job was ended by a guess, is recorded as what it says. Methods that
    write do so in transactions of their own, or in one of the caller, and raise ``django.db.OperationalError`` or
    ``InterfaceError`` while the database is away: call them again then. Any thread that may use the database calls
    them.
    """

    def __init__(self, hold: Hold) -> None:
        self._hold = hold

    def read(self, id: UUID) -> Job | None:
        """Return a job of an observed task that is not done, or has failed by a guess."""
        return changes.read(id)

    def insert(self, rows: Sequence[Job]) -> None:
        """Insert queued jobs of published messages, but those that exist. A row that is refused is logged."""
        recording.insert(rows)

    def record(self, group: Sequence[ObservedAttempt]) -> list[ObservedAttempt]:
        """Record the starts of attempts at different jobs, and the ends that are known, in one transaction.

        An end that the database refuses becomes a failure, a start is logged. Returns those to record again: their rows
        are locked by another transaction, or a hook has failed.
        """
        return recording.record_or_refuse(group, self._hold)

    def end(self, outcome: Outcome, start_within: timedelta | None = None) -> bool:
        """Record the end of a job as its row was read, or a failed attempt that another one follows.

        ``start_within``
            The job ends if the next attempt has not begun so long after it could have.

        Returns False if the row is locked by another transaction: try again. Nothing is changed, which is no error, if
        the job has changed since it was read.
        """
        # Of a copy, because writing changes the job, and is tried again after an error of the database.
        outcome = replace(outcome, job=copy.copy(outcome.job))
        if outcome.retry_delay is not None:
            return changes.schedule_retry(outcome, start_within)
        return changes.finish(outcome)

    def requeue(self, job: Job, *, is_replaced: bool = False) -> None:
        """Queue a running job again, without an attempt that failed: its message went back to the broker.

        ``is_replaced``
            It goes on with other tasks, of which the last one may not be observed. The job has ``expires_at``, when its
            end is to be looked for.
        """
        (changes.requeue_replaced if is_replaced else changes.requeue)(job)

    def requeue_lost(self, job: Job, start_within: timedelta | None) -> None:
        """Queue a running job again whose worker was lost, and whose message the broker delivers again."""
        changes.requeue_lost(job, start_within)

    def check_replaced_later(self, job: Job) -> None:
        """Move ``expires_at`` of a queued job that goes on with other tasks."""
        changes.check_replaced_later(job)

    def store_progress(self, attempt: ObservedAttempt) -> None:
        """Store the progress of a running job, and ring for its owner."""
        claims.store_progress([attempt.job])

    def complete(self, ends: Sequence[Outcome]) -> list[Outcome]:
        """Return outcomes whose ``notify`` functions were called, on a thread that may wait for the project."""
        return notify_functions.call_all(ends)

    def complete_apart(self, end: Outcome, record: Callable[[Sequence[Outcome]], object]) -> list[Outcome]:
        """Return the outcome in a list if it has no ``notify`` function to be called.

        Else the function is called on another thread, which then calls ``record`` with the outcome: see
        ``is_completing()``. The list is empty.
        """
        return notify_functions.record_apart([end], record)

    def is_completing(self, end: Outcome) -> bool:
        """Return whether a thread calls the ``notify`` function of an outcome, or records it. Not if there was none."""
        return claim_of(end.job) in notify_functions.claims_recorded_apart()

    def open_calls(self) -> list[Any]:
        """Return the futures of what ``complete_apart()`` has started and has not ended."""
        return list(notify_functions.open_records())

    def group_size(self, limit: int) -> int:
        """Return how many attempts ``record()`` should have, of ``limit`` if extensions add no jobs to ends."""
        return max(1, int(2 * limit / (2 + jobs_added["ends"])))

    def succeeded(self, job: Job, policy: Policy, value: Any, result: str) -> Outcome:
        """Return the end of a task that has returned ``value``, in JSON ``result``: see ``encode()``."""
        return outcomes.succeeded(job, policy, value, result)

    def encode(self, value: Any) -> str:
        """Return a result as JSON. Raises TypeError or ValueError if it cannot be stored, or what its class raises."""
        return outcomes.encode(value)

    def failed(self, job: Job, policy: Policy, exc: BaseException) -> Outcome:
        """Return the end of a task that has raised: another attempt if its policy allows one, else a failure."""
        return outcomes.failed(job, policy, exc)

    def failed_as(
        self, job: Job, policy: Policy, kind: str, exc: BaseException | None = None, detail: Any = None
    ) -> Outcome:
        """Return a failure of a documented type, such as ``expired``, with what the owner reads of it."""
        return outcomes.failure(job, policy, kind, exc, detail)

    def cancelled(self, job: Job, policy: Policy) -> Outcome:
        """Return the end of a cancelled task. The owner is notified only of a cancellation by another user."""
        return outcomes.cancelled(job, policy)

    def retried(self, job: Job, exc: BaseException, delay: float) -> Outcome:
        """Return the end of an attempt that another one follows after ``delay`` seconds."""
        return outcomes.retried(job, exc, delay)
