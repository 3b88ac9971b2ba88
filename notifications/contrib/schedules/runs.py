"""How the jobs of schedules ended, and which problems began or ended with them.

A problem begins with a run that failed or was missed, and ends with the next one that succeeds. Or it begins when
several ticks in a row are skipped, and ends when two in a row are not.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from notifications.contrib.schedules.models import Schedule, Tick
from notifications.contrib.schedules.offers import read_settings
from notifications.db import (
    chunks,
    database,
    database_now,
    lock_query,
    retrying_atomic,
)
from notifications.models import ACTIVE, Job

logger = logging.getLogger("notifications.jobs")

#: Runs of one schedule that are active at most, with ``"overlap": "allow"``.
MAX_ACTIVE_RUNS = 100
#: Runs that have ended that one round records at most.
MAX_READ_RUNS = 1_000
#: Ticks in a row that are skipped when this becomes a problem. A run may be long once.
SKIPPED_TICKS = 3

#: Schedules that one transaction locks at most, so that several processes share those that are due at one moment.
MAX_SCHEDULES_PER_TRANSACTION = 10
#: Seconds for which a process that is frozen, a suspended virtual machine for example, keeps schedules locked.
MAX_IDLE_SECONDS = 1

#: The id of a tick (None: its end is recorded already), its job, and the state and the error of that.
Run = tuple[int | None, UUID, str, str | None]

#: The state of a run whose job does not exist any more.
DELETED = "deleted"
FAILED, GIVEN_UP, MISSED, SKIPPED = "failed", "given up", "missed", "skipped"  # of Schedule.Problem


def open_ticks(schedules: Iterable[str]) -> Any:
    """Return a query of the ticks of schedules whose jobs are active, as far as recorded."""
    return Tick.objects.using(database()).filter(
        schedule_id__in=list(schedules), outcome="enqueued", job_state=""
    )


def count_active(schedules: Iterable[str]) -> Counter[str]:
    """Return how many jobs of each of these schedules are queued or running."""
    names = dict(open_ticks(schedules).values_list("job", "schedule_id"))
    active = Job.objects.using(database()).filter(pk__in=list(names), state__in=ACTIVE)
    return Counter(names[job] for job in active.values_list("pk", flat=True))


def record_ends() -> None:
    """Record which jobs of schedules have ended, and which problems began or ended with them."""
    ended: dict[str, list[Run]] = defaultdict(list)
    jobs, ticks = Job._meta.db_table, Tick._meta.db_table
    # Once a second: building the queryset takes longer than this.
    sql = f"""
        SELECT tick.*, job.state AS ended_state, job.error AS ended_error
        FROM {ticks} AS tick LEFT JOIN {jobs} AS job ON job.id = tick.job
        WHERE tick.outcome = 'enqueued' AND tick.job_state = ''
            AND (job.state IS NULL OR job.state NOT IN (%s, %s, %s))
        ORDER BY tick.schedule_id, tick.id LIMIT {MAX_READ_RUNS}
    """
    for tick in Tick.objects.using(database()).raw(sql, ACTIVE):
        ended[tick.schedule_id].append((tick.id, tick.job, tick.ended_state or DELETED, tick.ended_error))
    # After a retry by hand.
    sql = f"""
        SELECT schedule.* FROM {Schedule._meta.db_table} AS schedule JOIN {jobs} AS job ON job.id = schedule.problem_job
        WHERE NOT (schedule.problem = '') AND schedule.problem <> %s AND job.state = %s LIMIT {MAX_READ_RUNS}
    """
    for row in Schedule.objects.using(database()).raw(sql, [GIVEN_UP, Job.State.SUCCEEDED]):
        ended[row.name].append((None, row.problem_job, str(Job.State.SUCCEEDED), None))
    if not ended:
        return
    now = database_now()
    for chunk in chunks(sorted(ended), MAX_SCHEDULES_PER_TRANSACTION):
        of_chunk = {name: ended[name] for name in chunk}
        retrying_atomic(partial(_record_ends_of, of_chunk, now), idle_seconds=MAX_IDLE_SECONDS)


def _record_ends_of(ended: dict[str, list[Run]], now: datetime) -> None:
    """Record the ends of jobs by the names of their schedules, inside a transaction."""
    # Another process that holds a row does the same, or enqueues; then the next round records the ends.
    rows = lock_query(Schedule.objects.using(database()).filter(name__in=list(ended)).order_by("name"))
    for row in rows:
        ticks = Tick.objects.using(database()).filter(schedule_id=row.name)
        before = _problem(row)
        for tick, job, state, error in ended[row.name]:
            if tick is None:
                if row.problem_job != job:
                    continue
                newest = ticks.filter(job_state=Job.State.FAILED, job=job).order_by("-due_at").first()
                ticks.filter(id=newest and newest.id).update(job_state=state)
            elif not ticks.filter(id=tick, job_state="").update(job_state=state):
                continue
            if state == Job.State.FAILED:
                note_failure(row, job, _detail(error), now)
            elif state == Job.State.SUCCEEDED:
                note_success(row)
        if _problem(row) != before:
            row.save(using=database())
    # A schedule that was deleted before its job has ended.
    names = Schedule.objects.using(database()).filter(name__in=list(ended)).values("name")
    runs = [tick for name in ended for tick, *_ in ended[name]]
    left = Tick.objects.using(database()).filter(id__in=runs, job_state="").exclude(schedule_id__in=names)
    left.update(job_state=DELETED)


def _problem(row: Schedule) -> tuple[Any, ...]:
    return (
        *(row.problem, row.problem_since, row.problem_job, row.problem_facts),
        *(row.failures, row.paused_at),
    )


def note_failure(row: Schedule, job: UUID | None, detail: str, now: datetime) -> None:
    """Note that a run has failed, or that its job could not be enqueued. The caller holds the row and saves it."""
    if row.problem != FAILED and not _has_given_up(row):
        _note_problem(row, FAILED, now, detail=detail)
    row.problem_job = job
    if not row.is_stored:
        return
    row.failures += 1
    if row.failures >= read_settings().max_failures and row.paused_at is None:
        _note_problem(row, GIVEN_UP, now, count=row.failures, detail=detail)
        row.paused_at, row.paused_by = now, Schedule.PausedBy.FAILURES


def note_missed(row: Schedule, count: int, last: datetime, now: datetime) -> None:
    """Note that runs were missed. The caller holds the row and saves it."""
    if not row.problem:
        _note_problem(row, MISSED, now, count=count, due=last.isoformat())


def note_skipped(row: Schedule, now: datetime) -> None:
    """Note that a tick is skipped, before it is recorded. The caller holds the row and saves it."""
    before = _last_outcomes(row, SKIPPED_TICKS - 1)
    if not row.problem and before == [Tick.Outcome.SKIPPED] * (SKIPPED_TICKS - 1):
        _note_problem(row, SKIPPED, now)


def note_enqueued(row: Schedule) -> None:
    """Note that a tick is enqueued, before it is recorded. The caller holds the row and saves it."""
    # One between two long runs is no sign that the schedule is run when it is due.
    if row.problem == SKIPPED and _last_outcomes(row, 1) == [Tick.Outcome.ENQUEUED]:
        _note_end(row)


def note_success(row: Schedule) -> None:
    """Note that a run has succeeded, which ends a problem. The caller holds the row and saves it."""
    if _has_given_up(row):
        return
    row.failures = 0
    if row.problem != SKIPPED:
        _note_end(row)


def _has_given_up(row: Schedule) -> bool:
    """Return whether it does not run before it is resumed, whatever comes of runs by hand."""
    return row.paused_by == Schedule.PausedBy.FAILURES


def _note_problem(row: Schedule, problem: str, now: datetime, **facts: Any) -> None:
    row.problem, row.problem_since = problem, row.problem_since or now
    row.problem_facts = json.dumps(facts)


def _note_end(row: Schedule) -> None:
    row.problem, row.problem_since, row.problem_job, row.problem_facts = "", None, None, "{}"


def _last_outcomes(row: Schedule, count: int) -> list[str]:
    ticks = Tick.objects.using(database()).filter(schedule_id=row.name, is_manual=False)
    return list(ticks.order_by("-due_at").values_list("outcome", flat=True)[:count])


def _detail(error: str | None) -> str:
    try:
        return str(json.loads(error or "{}").get("detail", ""))
    except (ValueError, AttributeError, RecursionError):
        return ""
