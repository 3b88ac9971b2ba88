"""An observed task while it runs in this process: its job, its context, and the record of its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.db import DataError, IntegrityError

from notifications.jobs.claiming.claimed_job import ClaimedJob
from notifications.jobs.engines.celery.messages import (
    FIRST_CHECK_SECONDS,
    Message,
    build_batch,
    build_job,
    owner_of,
)
from notifications.jobs.engines.celery.recorder import recorder
from notifications.jobs.enqueueing.owners import enter_attempt, save_attempt
from notifications.jobs.observations import Observation
from notifications.jobs.policies import Policy
from notifications.jobs.transitions import observed, outcomes, running
from notifications.jobs.transitions.outcomes import Outcome
from notifications.jobs.worker.current import current_execution, set_current_execution
from notifications.jobs.worker.execution import Execution
from notifications.models import Job

#: Seconds for which a job's row may be locked by another transaction when its outcome is recorded.
MAX_LOCKED_SECONDS = 10.0


class ObservedExecution(Execution):
    """One execution of an observed task.

    ``job`` is the unsaved row of the message until ``begin()`` was recorded.
    """

    __slots__ = (
        "_attempt",
        "_is_begun",
        "_is_inline",
        "_is_void",
        "_restore",
        "_worker",
        "is_ended",
        "is_republished",
        "message",
        "observation",
        "policy",
    )

    def __init__(
        self,
        app: Any,
        message: Message,
        observation: Observation,
        *,
        worker: UUID,
        attempt: int,
        inline: bool,
    ) -> None:
        row = build_job(app, message, observation)
        owner = row.user_id if row.batch is None else owner_of(message)
        super().__init__(ClaimedJob(row, owner=owner), _report_progress)
        self.message = message
        self.observation = observation
        self.policy = observation.policy
        self._worker = worker
        self._attempt = attempt
        #: The task is called by its publisher (``task_always_eager``), perhaps in a transaction.
        self._is_inline = inline
        self._is_begun = self._is_void = False
        #: The end is recorded, or about to be.
        self.is_ended = False
        #: The task has published a message with its own id: ``Task.replace()``.
        self.is_republished = False
        self._restore: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """Record the start, and make this the current execution, until ``leave()``."""
        self._record(self._begin)
        outer, restore_owner = current_execution(), save_attempt()

        def restore() -> None:
            restore_owner()
            set_current_execution(outer)

        self._restore = restore
        set_current_execution(self)
        enter_attempt(self.claimed.owner, self.job.id)

    def leave(self) -> None:
        """Make the execution current again that was so before ``begin()``."""
        self.is_over = True
        recorder().forget(self)
        self._restore()

    def finish(self, outcome: Outcome) -> None:
        """Record an outcome, which was made for ``job``."""
        self.is_ended = True
        recorder().forget(self)
        self._record(lambda: self._finish(outcome))

    def requeue(self, check_at: Any) -> None:
        """Record that the message went back to the broker."""
        self.is_ended = True
        recorder().forget(self)

        def requeue() -> None:
            if self._has_row():
                observed.requeue(self.job, check_at)

        self._record(requeue)

    def store_progress(self) -> None:
        """Store what the task has reported, if its start was recorded."""
        if self._is_begun and not self._is_void:
            running.store_progress([self.job])

    def _record(self, function: Callable[[], Any]) -> None:
        if self._is_inline:
            function()
        else:
            recorder().call(function)

    def _begin(self) -> None:
        placeholder = self.job
        job = observed.begin(placeholder.id, self._worker, attempt=self._attempt, make=self._build_rows)
        self._is_begun = True
        if job is None:
            self._is_void = True
            return
        job.progress_current, job.progress_total, job.progress_message = (
            placeholder.progress_current,
            placeholder.progress_total,
            placeholder.progress_message,
        )
        self.job = self.claimed.row = job

    def _build_rows(self) -> list[Job]:
        """Return the rows to insert if there is none yet: the job, after its batch."""
        return [build_batch(self.message, self.observation), self.job] if self.job.batch else [self.job]

    def _has_row(self) -> bool:
        """Return whether the job is in the database as this execution left it, after another try to begin it."""
        if not self._is_begun:
            self._begin()
        return not self._is_void

    def _finish(self, outcome: Outcome) -> None:
        if not self._has_row():
            return
        outcome = replace(outcome, job=self.job)
        try:
            finish_unlocked(outcome)
        except (DataError, IntegrityError) as exc:
            finish_unlocked(outcomes.refused(self.job, self.policy, exc))


def finish_unlocked(outcome: Outcome) -> None:
    """Record an end, or a failed attempt that another one follows.

    It is tried again while another transaction holds the row, as the one that stores a batch's progress.
    """
    give_up_at = time.monotonic() + MAX_LOCKED_SECONDS
    while not _record(outcome) and time.monotonic() < give_up_at:
        time.sleep(0.01)


def _record(outcome: Outcome) -> bool:
    if outcome.retry_delay is not None:
        return observed.schedule_retry(outcome, FIRST_CHECK_SECONDS)
    return observed.finish(outcome)


def current_observed(id: str) -> ObservedExecution | None:
    """Return the execution of the task with this id that runs in this context, None if another one or none does."""
    execution = current_execution()
    if isinstance(execution, ObservedExecution) and execution.message.id == id:
        return execution
    return None


def policy_of(observation: Observation | None) -> Policy:
    """Return the policy of an observed task, the default one if it is no longer observed."""
    return (observation or Observation()).policy


def _report_progress(execution: Execution) -> None:
    assert isinstance(execution, ObservedExecution)
    if execution._is_inline:
        execution.store_progress()
    else:
        recorder().report(execution, execution.store_progress)
