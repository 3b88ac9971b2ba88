"""Enqueue the job of a schedule and record the tick, in one transaction."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from notifications import validators
from notifications.contrib.schedules import runs
from notifications.contrib.schedules.declarations import ScheduleDeclaration
from notifications.contrib.schedules.models import Schedule, Tick
from notifications.contrib.schedules.tasks import scheduled_task
from notifications.contrib.schedules.users import find_owner
from notifications.db import catching, database
from notifications.exceptions import IdempotencyKeyConflict, TooManyJobs
from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

MAX_DETAIL_LENGTH = 500


class ScheduledCall:
    """The call of a schedule's task, prepared before the transaction that enqueues it.

    That transaction calls no code of the project, so that it holds the schedule for a moment only.
    """

    def __init__(self, declaration: ScheduleDeclaration) -> None:
        self._declaration = declaration
        self._task: Any = None
        self._job: Job | None = None
        self._error = ""
        with catching() as caught:
            self._prepare()
        if caught.error:
            self._error = str(caught.error) or repr(caught.error)

    def _prepare(self) -> None:
        task = scheduled_task(self._declaration)
        if (owner := find_owner(self._declaration)) is not None:
            task = task.using(owner=owner)
        options = task.options._replace(schedule=self._declaration.name)
        self._task = replace(task, options=options)
        self._job, *_ = self._task.get_backend().prepare(
            self._task, self._declaration.args, self._declaration.kwargs
        )

    def enqueue(
        self, schedule: Schedule, due_at: datetime, now: datetime, active: int, *, is_manual: bool = False
    ) -> Tick:
        """Enqueue the job and insert the tick, inside a transaction that holds the schedule locked. Return the tick.

        ``active`` is how many jobs of the schedule are active. The caller saves the schedule.
        """

        def record(outcome: Any, detail: str = "", job: UUID | None = None) -> Tick:
            return insert_tick(
                schedule.name, due_at, outcome, now, detail=detail, job=job, is_manual=is_manual
            )

        reason = ""
        if active and not self._declaration.allows_overlap:
            reason = "The previous run is still active."
        elif active >= runs.MAX_ACTIVE_RUNS:
            reason = f"{active} runs are active, as many as one schedule may have."
        if reason:
            if not is_manual:
                runs.note_skipped(schedule, now)
            return record(Tick.Outcome.SKIPPED, reason)
        error = self._error
        if self._job:
            try:
                stored_job: Job = self._task.get_backend().enqueue_prepared(self._task, self._job)
            except (TooManyJobs, IdempotencyKeyConflict) as exc:
                error = str(exc)
            else:
                runs.note_enqueued(schedule)
                is_new = stored_job is self._job
                detail = "" if is_new else "The key of the task is that of a job enqueued earlier."
                return record(Tick.Outcome.ENQUEUED, detail, stored_job.id)
        logger.error("Could not enqueue the job of a schedule: %s: %s", schedule.name, error)
        runs.note_failure(schedule, None, "", now)
        return record(Tick.Outcome.FAILED, error)


def insert_tick(schedule: str, due_at: datetime, outcome: Any, now: datetime, **fields: Any) -> Tick:
    # The message of an exception may have characters that cannot be stored.
    detail = validators.printable(fields.get("detail", ""))
    fields["detail"] = validators.shortened(detail, MAX_DETAIL_LENGTH)
    return Tick.objects.using(database()).create(
        schedule_id=schedule, due_at=due_at, outcome=outcome, recorded_at=now, **fields
    )
