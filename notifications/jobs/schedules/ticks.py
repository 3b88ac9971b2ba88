"""Enqueue one job for each tick that is due, in the transaction that records the tick.

Every process that runs jobs or hands them over calls ``run_round()``. It takes the time from the database's clock, so
that machines whose clocks differ agree.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TypeVar

from django.db import InterfaceError, OperationalError

from notifications.db.transactions import database, retrying_atomic
from notifications.jobs.schedules import runs
from notifications.jobs.schedules.declarations import (
    ScheduleDeclaration,
    declared_schedules,
    wrong_declarations,
)
from notifications.jobs.schedules.enqueueing import ScheduledCall, insert_tick
from notifications.jobs.transitions.guards import database_now, lock_query
from notifications.models import Schedule, Tick

logger = logging.getLogger("notifications.jobs")

T = TypeVar("T")

#: Seconds between two rounds, unless a schedule is due before.
ROUND_INTERVAL_SECONDS = 1.0
#: Schedules whose ticks one round records at most. Another round follows immediately.
MAX_SCHEDULES_PER_ROUND = 20
#: When the timing of a schedule changes, ticks of the new one that are older are not due. During a rolling deployment
#: processes with both timings change it back and forth, and must not skip a tick that the others have just not seen.
TIMING_CHANGE_OVERLAP = timedelta(minutes=1)
#: The smallest difference of two times.
INSTANT = timedelta(microseconds=1)

#: Messages about declarations that this process has logged.
_logged: set[str] = set()


def run_round() -> float:
    """Record the ticks that are due, then the ends of their jobs. Return the seconds until the next round.

    Raises ``django.db.Error`` when the database is unavailable.
    """
    for wrong in wrong_declarations():
        _log_once("A schedule is not declared correctly: %s %s", wrong.message, wrong.hint)
    declared = declared_schedules()
    if not declared:
        return ROUND_INTERVAL_SECONDS
    rows = read_rows(declared)
    now = database_now()
    due = []
    for row in sorted(rows.values(), key=lambda row: row.next_tick or now):
        declaration = declared[row.name]
        if row.next_tick is None or row.timing != str(declaration.timing):
            row = isolate(row.name, lambda row=row: _set_timing(row, declared[row.name], now)) or row  # type: ignore[misc]
        if row.paused_at is None and row.next_tick and row.next_tick <= now:
            due.append(row)
    for row in due[:MAX_SCHEDULES_PER_ROUND]:
        isolate(row.name, lambda row=row: _record_due_ticks(row, declared[row.name], now))  # type: ignore[misc]
    runs.record_ends(rows.values())
    for row in rows.values():
        if row.announcement:
            isolate(row.name, lambda row=row: runs.send_announcement(row, declared[row.name]))  # type: ignore[misc]
    if len(due) > MAX_SCHEDULES_PER_ROUND:
        return 0
    # Those that were due are due again at the tick after it, which may be less than a second away.
    moments = (
        row.next_tick if row.next_tick > now else declared[row.name].timing.next_tick(now)
        for row in rows.values()
        if row.next_tick and row.paused_at is None
    )
    return min([ROUND_INTERVAL_SECONDS, *((moment - now).total_seconds() for moment in moments if moment)])


def isolate(name: str, work: Callable[[], T]) -> T | None:
    """Do a step for one schedule. An error is logged, so that it does not keep the others from running.

    Raises ``django.db.OperationalError`` and ``InterfaceError``: then the database is unavailable to all.
    """
    try:
        return work()
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        logger.exception("Could not enqueue the job of a schedule, which is tried again: %s", name)
        return None


def read_rows(declared: Mapping[str, ScheduleDeclaration]) -> dict[str, Schedule]:
    """Return the rows of declared schedules by name. Rows that do not exist are inserted."""
    rows = Schedule.objects.using(database())
    found = {row.name: row for row in rows.filter(name__in=declared)}
    missing = [declaration for name, declaration in declared.items() if name not in found]
    if missing:
        now = database_now()
        made = [
            Schedule(
                name=declaration.name,
                timing=str(declaration.timing),
                task_path=declaration.task_path,
                created_at=now,
                next_tick=declaration.timing.next_tick(now),
            )
            for declaration in missing
        ]
        retrying_atomic(lambda: rows.bulk_create(made, ignore_conflicts=True))
        found |= {row.name: row for row in rows.filter(name__in=[row.name for row in made])}
    return found


def _set_timing(row: Schedule, declaration: ScheduleDeclaration, now: datetime) -> Schedule:
    """Compute the next tick of a schedule whose timing has changed, or that was resumed where it is not declared."""
    timing = declaration.timing
    is_new_timing = row.timing != str(timing)
    if not is_new_timing and timing.next_tick(now) is None:
        return row  # a cron expression without a tick in the next 50 years
    since = now - TIMING_CHANGE_OVERLAP if is_new_timing and row.next_tick else now
    next_tick = timing.next_tick(max(since, row.last_tick or since))

    def write() -> None:
        rows = Schedule.objects.using(database())
        same = rows.filter(name=row.name, timing=row.timing, next_tick=row.next_tick)
        if row.next_tick is None:
            same = rows.filter(name=row.name, timing=row.timing, next_tick__isnull=True)
        changed = same.update(timing=str(timing), task_path=declaration.task_path, next_tick=next_tick)
        if changed and is_new_timing and row.next_tick and row.next_tick < since and not row.paused_at:
            detail = "The timing was changed before its job was enqueued."
            insert_tick(row.name, row.next_tick, Tick.Outcome.MISSED, now, detail=detail)

    retrying_atomic(write)
    found = Schedule.objects.using(database()).get(name=row.name)
    return found if found.timing == str(timing) else row


def _record_due_ticks(row: Schedule, declaration: ScheduleDeclaration, now: datetime) -> None:
    """Enqueue the job of the newest tick that is due, if it is within the grace, and record the others as missed."""
    timing = declaration.timing
    before = row.next_tick - INSTANT
    if row.timing != str(timing):
        return  # a process with another declaration has set it meanwhile
    # Before the transaction: of a hostile cron expression this takes up to a second.
    newest = timing.newest_tick(before, now)
    if newest is None:
        return
    next_tick = timing.next_tick(newest)
    is_run = now - newest <= declaration.grace
    missed_until = timing.newest_tick(before, newest - INSTANT) if is_run else newest
    missed = timing.count_ticks(before, missed_until) if missed_until else 0
    call = ScheduledCall(declaration) if is_run else None

    def write() -> None:
        rows = Schedule.objects.using(database())
        due = rows.filter(name=row.name, next_tick=row.next_tick, timing=row.timing, paused_at__isnull=True)
        # Another process that holds the row is recording the same ticks.
        locked = lock_query(due).first()
        if locked is None:
            return
        locked.next_tick, locked.last_tick, locked.task_path = next_tick, newest, declaration.task_path
        existing = Tick.objects.using(database()).filter(
            schedule_id=row.name, due_at__in=[newest, missed_until]
        )
        if not existing.exists():  # as after a restored backup, or a change by hand
            if missed and missed_until:
                first = row.next_tick if missed > 1 else None
                insert_tick(
                    row.name, missed_until, Tick.Outcome.MISSED, now, count=missed, first_due_at=first
                )
                runs.note_missed(locked, missed, missed_until, now)
            if call:
                call.enqueue(locked, newest, now)
        locked.save(using=database())

    retrying_atomic(write)


def _log_once(message: str, *values: str) -> None:
    if (text := message % values) not in _logged:
        _logged.add(text)
        logger.error("%s", text)
