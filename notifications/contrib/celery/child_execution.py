"""An observed task in a child process of a Celery worker, whose recording process writes what this one sends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from notifications.contrib.celery import main_process, recording_process, task_ends
from notifications.contrib.celery.execution import ObservedExecution
from notifications.contrib.celery.messages import (
    build_job,
    calls_project,
    job_id,
    received_header,
    received_message,
    received_parts,
)
from notifications.contrib.celery.recorder import MAX_WAIT_SECONDS, recorder
from notifications.db.transactions import database
from notifications.engines.observed.starts import ObservedAttempt
from notifications.jobs.declaring.observations import Observation
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions.running import PROGRESS_COLUMNS
from notifications.models import Job

#: Seconds between two looks for the row of a start.
POLL_INTERVAL_SECONDS = 0.01


class ChildExecution(ObservedExecution):
    """One execution in a child process. It sends what ``Receiver`` takes, and waits for no record.

    ``start``
        What the recording process needs to know of the task: see ``receiver.Start``. It is in each message, because
        that process may have been started anew.
    """

    __slots__ = ("_observation", "_request", "_task", "start")

    def __init__(self, task: Any, observation: Observation) -> None:
        self._task, self._request, self._observation = task, task.request, observation
        parts = received_parts(task.name, self._request)
        self._prepare(parts[0], observation)
        self.is_inline = self._has_lease = False
        self.start: tuple[Any, ...] = (
            *(os.getpid(), time.monotonic(), (self._request.retries or 0) + 1, None),
            *parts,
        )
        if received_header(self._request) is None or calls_project(observation):
            # Made of the arguments, which the task may change, and outside of a transaction.
            self.start = *self.start[:3], self.job, *parts

    def __getattr__(self, name: str) -> Any:
        """Make what most tasks do without."""
        if name == "make_message":
            self.make_message = received_message(self._task.name, self._request).read
            return self.make_message
        if name == "attempt":
            _, started_at, number, *_ = self.start
            make_message = self.make_message
            self.attempt = ObservedAttempt(
                id=job_id(self.id),
                worker=main_process.worker_id(),
                number=number,
                policy=self.policy,
                make_job=lambda: build_job(self._task.app, make_message(), self._observation),
                started_at=started_at,
            )
            return self.attempt
        return super().__getattr__(name)

    def wait_for_start(self, seconds: float = MAX_WAIT_SECONDS) -> None:
        """Wait until the start is recorded, so that what another process records of this task comes after it."""
        give_up_at = time.monotonic() + seconds

        def wait() -> None:
            rows = Job.objects.using(database()).filter(id=job_id(self.id), attempt__gte=self.start[2])
            started = rows.exclude(state=Job.State.QUEUED)
            while not started.exists() and time.monotonic() < give_up_at:
                time.sleep(POLL_INTERVAL_SECONDS)

        recorder().call(wait, wait=seconds)

    def succeed(self, value: Any) -> None:
        """Have a success recorded."""
        _, result = task_ends.storable(value)
        self._send_end("succeeded", result)

    def finish(self, make: Callable[[Job], Outcome]) -> None:
        """Have the end recorded. ``make`` returns the outcome for a job; its notification is made by the receiver."""
        self._send_end(*_fields_of(make(self.job)))

    def schedule_retry(self, outcome: Outcome) -> None:
        """Have a failed attempt recorded that another one follows."""
        self._end("schedule_retry", _fields_of(outcome), outcome.retry_delay)

    def requeue(self, check_at: datetime) -> None:
        """Have it recorded that the message went back to the broker."""
        self._end("requeue", check_at)

    def store_progress(self) -> bool:
        """Send what the task has reported."""
        self._send("store_progress")
        return True

    def _record(self) -> None:
        self._send("begin")

    def _send_end(self, *fields: Any) -> None:
        self._end("finish", fields)

    def _end(self, kind: str, *values: Any) -> None:
        self.is_ended = True
        if self.has_job:
            recorder().forget(self)
        self._send(kind, *values)

    def _send(self, kind: str, *values: Any) -> None:
        progress = None
        if self.has_job:  # else the task has reported nothing
            progress = tuple(getattr(self.job, name) for name in PROGRESS_COLUMNS)
        recording_process.send(kind, self.start, progress, *values)


def _fields_of(outcome: Outcome) -> tuple[Any, ...]:
    """Return what ``Receiver`` makes an outcome of, without what depends on the row of its job."""
    return (
        str(outcome.state),
        outcome.result,
        outcome.error,
        str(outcome.attempt),
        outcome.exception_class_path,
        outcome.traceback,
        outcome.location,
    )
