"""An observed task while it runs in this process: its job, its context, and the record of its end."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

from notifications import times
from notifications.contrib.celery import task_ends
from notifications.contrib.celery.eager import eager_process
from notifications.contrib.celery.held_reports import observer
from notifications.contrib.celery.messages import (
    Message,
    build_job,
    job_id,
)
from notifications.contrib.celery.observations import Observation
from notifications.contrib.celery.recorder import MAX_WAIT_SECONDS, log_unrecorded, recorder
from notifications.db import UNAVAILABLE
from notifications.db.transactions import in_callers_transaction
from notifications.jobs import ObservedAttempt, Outcome, Policy
from notifications.models import Job, uuid7
from notifications.worker import Execution, current_execution

logger = logging.getLogger("notifications.jobs")

#: Seconds for which a task that its publisher calls itself waits for a row that another transaction holds.
MAX_LOCKED_SECONDS = 10.0


class ObservedExecution(Execution):
    """One execution of an observed task.

    ``job`` is the unsaved row of the message until the start is recorded. It is made when it is first read, because
    most tasks do without.
    ``worker`` is None for a task that its publisher calls itself (``task_always_eager``), perhaps in a transaction.
    """

    is_observed = True

    __slots__ = (
        "_has_lease",
        "_restore",
        "_start_within",
        "attempt",
        "has_job",
        "id",
        "is_ended",
        "is_inline",
        "is_republished",
        "policy",
    )

    def __init__(
        self,
        app: Any,
        id: str,
        message: Message,
        observation: Observation,
        *,
        worker: UUID | None,
        attempt: int,
        acks_late: bool,
    ) -> None:
        self.is_inline, self._has_lease = worker is None, False
        if worker is None:
            try:
                worker, self._has_lease = eager_process.enter()
            except UNAVAILABLE:  # it may be back when the task ends
                worker = uuid7()
        super().__init__(None, _report_progress)
        self.id, self.policy, self._start_within = id, observation.policy, observation.start_within
        #: The job was read, as ``progress()`` does: the task may have reported some.
        self.has_job = False
        #: The end is recorded, or about to be.
        self.is_ended = False
        #: The task has published a message with its own id: ``Task.replace()``.
        self.is_republished = False
        self._restore: Callable[[], None] = lambda: None
        now = times.now()
        self.attempt = ObservedAttempt(
            id=job_id(id),
            worker=worker,
            process_id=os.getpid(),
            acks_late=acks_late,
            number=attempt,
            policy=self.policy,
            make_job=lambda: build_job(app, message, observation, now),
        )

    def __getattr__(self, name: str) -> Any:
        if name != "job":
            raise AttributeError(name)
        self.job, self.has_job = self.attempt.job, True
        return self.job

    def _owner(self) -> Any:
        return self.job.user_id

    def begin(self) -> None:
        """Have the start recorded, and make this the current execution, until ``leave()``."""
        self._record()
        self._restore = self.make_current(self._owner, job_id(self.id))

    def wait_for_start(self, seconds: float = MAX_WAIT_SECONDS) -> None:
        """Wait until the start is recorded, so that what another process records of this task comes after it."""
        if not self.attempt.is_begun and not self.is_inline:
            recorder.call(lambda: _ensure_begun(self.attempt), wait=seconds)

    def leave(self) -> None:
        """Make the execution current again that was so before ``begin()``."""
        self.is_over = True
        if self.has_job:  # else it has reported nothing
            recorder.forget_progress(self.attempt)
        self._restore()
        if self._has_lease:
            eager_process.leave()

    def succeed(self, value: Any) -> None:
        """Have a success recorded."""
        policy = self.policy
        value, result = task_ends.storable(value)

        if callable(policy.notify):  # which gets the value
            self.finish(lambda job: observer.succeeded(job, policy, value, result))
            return
        self.is_ended = True
        recorder.forget_progress(self.attempt)
        self.attempt.outcome = lambda job: observer.succeeded(job, policy, value, result)
        self._record()

    def finish(self, make: Callable[[Job], Outcome]) -> None:
        """Have the end recorded. ``make`` returns the outcome for a job."""
        self.is_ended = True
        recorder.forget_progress(self.attempt)
        self.attempt.remake = make
        outcome = make(self.job)
        try:
            if self.is_inline:  # else the recorder has it called
                [outcome] = observer.complete([outcome])
        finally:  # SoftTimeLimitExceeded may be raised while this waits
            self.attempt.outcome = replace(outcome, notify=None) if self.is_inline else outcome
            self._record()

    def schedule_retry(self, outcome: Outcome) -> None:
        """Have a failed attempt recorded that another one follows."""
        self._end_by(lambda: observer.end(outcome, self._start_within))

    def requeue(self) -> None:
        """Have it recorded that the message went back to the broker, or that other tasks replace this one."""
        self._end_by(lambda: observer.requeue(self.job, is_replaced=self.is_republished))

    def _record(self) -> None:
        if self.is_inline:
            try:
                retry_unlocked(lambda: not observer.record([self.attempt]) or self._is_left())
            except UNAVAILABLE as exc:
                if self.is_ended:  # else the start is recorded with the end, if the database is back then
                    log_unrecorded(exc)
        else:
            recorder.record(self.attempt)

    def _is_left(self) -> bool:
        """Leave an end at which a hook of an extension fails to the recorder. The caller does not wait for the hook."""
        is_left = (
            self.is_ended and self.attempt.held_until > time.monotonic() and not in_callers_transaction()
        )
        if is_left:
            recorder.record(self.attempt)
        return is_left

    def _end_by(self, change: Callable[[], Any]) -> None:
        self.is_ended = True
        recorder.forget_progress(self.attempt)

        if self.is_inline:
            retry_unlocked(lambda: _end_attempt(self.attempt, change))
        else:
            recorder.call(lambda: _end_attempt(self.attempt, change), wait=0)


def _end_attempt(attempt: ObservedAttempt, change: Callable[[], Any]) -> bool:
    """Record the end of an attempt in another way than as an outcome: ``change`` does, after its start is recorded.

    Return False if the row is locked.
    """
    if not _ensure_begun(attempt):
        return False
    return not attempt.is_begun or attempt.is_void or change() is not False


def _ensure_begun(attempt: ObservedAttempt) -> bool:
    """Record the start of an attempt if it is not recorded. Return False if the row is locked."""
    return attempt.is_begun or attempt.is_void or not observer.record([attempt])


def retry_unlocked(function: Callable[[], object]) -> None:
    """Repeat a call for ``MAX_LOCKED_SECONDS`` while it returns False: another transaction holds the row."""
    give_up_at = time.monotonic() + MAX_LOCKED_SECONDS
    while function() is False and time.monotonic() < give_up_at:
        time.sleep(0.01)


def current_observed(id: str) -> ObservedExecution | None:
    """Return the execution of the task with this id that runs in this context, None if another one or none does."""
    execution = current_execution()
    if isinstance(execution, ObservedExecution) and execution.id == id:
        return execution
    return None


def policy_of(observation: Observation | None) -> Policy:
    """Return the policy of an observed task, the default one if it is no longer observed."""
    return (observation or Observation()).policy


def _report_progress(execution: Execution) -> None:
    assert isinstance(execution, ObservedExecution)
    attempt = execution.attempt
    if not execution.is_inline:
        if not execution.is_over:  # else it would never be forgotten
            recorder.report_progress(attempt)
    elif attempt.is_begun and not attempt.is_void:
        try:
            observer.store_progress(attempt)
        except UNAVAILABLE as exc:
            logger.warning("Could not store the progress of a Celery task: %s", exc)
