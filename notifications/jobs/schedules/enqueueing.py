"""Enqueue the job of a schedule and record the tick, in one transaction."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import Error, transaction

from notifications import validators
from notifications.db.transactions import database
from notifications.jobs.schedules import runs
from notifications.jobs.schedules.declarations import ScheduleDeclaration
from notifications.jobs.schedules.tasks import ScheduledTaskError, scheduled_task
from notifications.jobs.schedules.users import find_owner
from notifications.models import Schedule, Tick

logger = logging.getLogger("notifications.jobs")

MAX_DETAIL_LENGTH = 500


class ScheduledCall:
    """The call of a schedule's task, prepared before the transaction that enqueues it."""

    def __init__(self, declaration: ScheduleDeclaration) -> None:
        self._declaration = declaration
        self._task: Any = None
        self._error = ""
        try:
            self._task = scheduled_task(declaration)
        except ScheduledTaskError as exc:
            self._error = str(exc)
        self._owner = find_owner(declaration)

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
        if not error:
            try:
                with transaction.atomic(using=database()):
                    job = self._insert_job()
                    runs.note_enqueued(schedule)
                    return record(Tick.Outcome.ENQUEUED, job=job)
            except Error:
                raise
            except Exception as exc:
                error = str(exc) or repr(exc)
        logger.error("Could not enqueue the job of a schedule: %s: %s", schedule.name, error)
        runs.note_failure(schedule, None, "", now)
        return record(Tick.Outcome.FAILED, error)

    def _insert_job(self) -> UUID:
        task = self._task if self._owner is None else self._task.using(owner=self._owner)
        task = replace(task, options=replace(task.options, schedule=self._declaration.name))
        return UUID(str(task.enqueue(*self._declaration.args, **self._declaration.kwargs).id))


def insert_tick(schedule: str, due_at: datetime, outcome: Any, now: datetime, **fields: Any) -> Tick:
    """Insert the row of a tick and return it."""
    # The message of an exception may have characters that cannot be stored.
    detail = fields.get("detail", "").replace("\0", "\ufffd").encode(errors="replace").decode()
    fields["detail"] = validators.shortened(detail, MAX_DETAIL_LENGTH)
    return Tick.objects.using(database()).create(
        schedule_id=schedule, due_at=due_at, outcome=outcome, recorded_at=now, **fields
    )
