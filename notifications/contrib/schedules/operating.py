"""Pause, resume and run schedules by hand."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from notifications.contrib.schedules import runs, stored, ticks, undeclared
from notifications.contrib.schedules.declarations import declared_schedules
from notifications.contrib.schedules.enqueueing import ScheduledCall
from notifications.contrib.schedules.models import Schedule, Tick
from notifications.contrib.schedules.tasks import import_tasks
from notifications.db import database, database_now, lock_query, retrying_atomic


class ScheduleNotRun(Exception):
    """A schedule cannot be run now; the message gives the reason and the remedy."""


def insert_declared() -> None:
    """Insert the rows of declared schedules that no process has run yet, so that they are listed."""
    import_tasks()
    ticks.read_rows(declared_schedules())


def pause(names: Iterable[str]) -> list[str]:
    """Enqueue no more jobs of these schedules. Return the names of those that were not paused."""
    return [name for name in sorted(set(names)) if retrying_atomic(partial(_pause, name))]


def resume(names: Iterable[str]) -> list[str]:
    """Enqueue jobs of these schedules again. Return the names of those that were paused.

    Ticks that were due meanwhile are neither enqueued nor recorded as missed.
    """
    return [name for name in sorted(set(names)) if retrying_atomic(partial(_resume, name))]


def _pause(name: str) -> int:
    rows = Schedule.objects.using(database()).filter(name=name, paused_at__isnull=True)
    return rows.update(paused_at=database_now(), paused_by=Schedule.PausedBy.PERSON)


def _resume(name: str) -> bool:
    rows = Schedule.objects.using(database()).filter(name=name, paused_at__isnull=False)
    # What it says is read from the row that is locked: it may be changed at the same time.
    row: Schedule | None = lock_query(rows, skip_locked=False).first()
    if row is None:
        return False
    now = database_now()
    row.paused_at, row.paused_by, row.failures, row.put_off_until = None, Schedule.PausedBy.PERSON, 0, None
    if declaration := stored.find_declaration(row):
        row.timing, row.next_tick = str(declaration.timing), declaration.timing.next_tick(now)
        row.timed_at, row.declared_until = now, undeclared.declared_until(declaration, now)
    elif not row.is_stored:
        row.next_tick = None  # a process in which it is declared computes it
    row.save(using=database())
    return True


def run_now(name: str) -> Tick:
    """Enqueue the job of a schedule now, paused or not, and return the tick with the id of the job.

    Raises ``ScheduleNotRun``.
    """
    insert_declared()
    while (tick := _run(name)) is None:
        pass
    if tick.outcome == Tick.Outcome.SKIPPED:
        raise ScheduleNotRun(f"{name} was not run. {tick.detail} Wait until it has ended, or cancel it.")
    if tick.outcome == Tick.Outcome.FAILED:
        raise ScheduleNotRun(f"{name} was not run, because its job could not be enqueued: {tick.detail}")
    return tick


def _run(name: str) -> Tick | None:
    """Return the tick of a run by hand, None if the schedule has changed while its job was prepared."""
    rows = Schedule.objects.using(database()).filter(name=name)
    before = rows.first()
    declaration = stored.find_declaration(before) if before else None
    if before and before.is_stored and declaration is None:
        raise ScheduleNotRun(f"The schedule {name} cannot be read. Delete it, and make it anew.")
    if before is None or declaration is None:
        raise ScheduleNotRun(
            f"The schedule {name} is not declared correctly in NOTIFICATIONS['SCHEDULES']. Run manage.py check."
        )
    if not stored.has_owner(before, declaration):
        raise ScheduleNotRun(f"{before} was not run, because its owner is not active.")
    call = ScheduledCall(declaration)

    def write() -> Tick | None:
        # Waits for a process that enqueues for this schedule.
        row: Schedule | None = lock_query(rows, skip_locked=False).first()
        if row is None or ticks.read_of(row) != ticks.read_of(before):
            return None
        now = database_now()
        active = runs.count_active([name]).get(name, 0)
        tick = call.enqueue(row, now, now, active, is_manual=True)
        row.save(using=database())
        return tick

    return retrying_atomic(write)
