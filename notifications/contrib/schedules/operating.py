"""Pause, resume and run schedules by hand."""

from __future__ import annotations

from collections.abc import Iterable

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
    return _change(names, is_paused=True)


def resume(names: Iterable[str]) -> list[str]:
    """Enqueue jobs of these schedules again. Return the names of those that were paused.

    Ticks that were due meanwhile are neither enqueued nor recorded as missed.
    """
    return _change(names, is_paused=False)


def _change(names: Iterable[str], *, is_paused: bool) -> list[str]:
    changed = []
    for name in sorted(set(names)):
        now = database_now()
        values: dict[str, object] = {"paused_at": now if is_paused else None, "paused_by": ""}
        if not is_paused:
            declaration = stored.find_declaration(name)
            values["failures"], values["put_off_until"] = 0, None
            # NULL: a process in which it is declared computes it.
            values["next_tick"] = declaration.timing.next_tick(now) if declaration else None
            if declaration:
                values["timing"] = str(declaration.timing)
                values["declared_until"] = undeclared.declared_until(declaration, now)
        rows = Schedule.objects.using(database()).filter(name=name, paused_at__isnull=is_paused)
        if retrying_atomic(lambda rows=rows, values=values: rows.update(**values)):  # type: ignore[misc]
            changed.append(name)
    return changed


def run_now(name: str) -> Tick:
    """Enqueue the job of a schedule now, paused or not, and return the tick with the id of the job.

    Raises ``ScheduleNotRun``.
    """
    insert_declared()
    row = Schedule.objects.using(database()).filter(name=name).first()
    declaration = stored.find_declaration(name)
    has_owner = row is not None and row.user_id is not None
    if has_owner and declaration and not stored.is_active(declaration.user):
        raise ScheduleNotRun(f"{row} was not run, because its owner is not active.")
    if declaration is None:
        raise ScheduleNotRun(
            f"The schedule {name} is not declared correctly in NOTIFICATIONS['SCHEDULES']. Run manage.py check."
        )
    call = ScheduledCall(declaration)

    def write() -> Tick:
        # Waits for a process that enqueues for this schedule.
        rows = Schedule.objects.using(database()).filter(name=name)
        row = lock_query(rows, skip_locked=False).get()
        now = database_now()
        active = runs.count_active([name]).get(name, 0)
        tick = call.enqueue(row, now, now, active, is_manual=True)
        row.save(using=database())
        return tick

    tick = retrying_atomic(write)
    if tick.outcome == Tick.Outcome.SKIPPED:
        raise ScheduleNotRun(f"{name} was not run. {tick.detail} Wait until it has ended, or cancel it.")
    if tick.outcome == Tick.Outcome.FAILED:
        raise ScheduleNotRun(f"{name} was not run, because its job could not be enqueued: {tick.detail}")
    return tick
