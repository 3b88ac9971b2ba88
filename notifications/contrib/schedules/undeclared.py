"""Which schedules some process still declares, and what becomes of the ticks of the others.

The processes of a project may have different settings, or code of different age. A process that declares a schedule
extends ``declared_until`` of its row; one that does not leaves the row to it, and may act only after that time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial

from notifications.contrib.schedules import runs
from notifications.contrib.schedules.declarations import ScheduleDeclaration
from notifications.contrib.schedules.enqueueing import insert_tick
from notifications.contrib.schedules.models import Schedule, Tick
from notifications.db import chunks, database, lock_query, retrying_atomic

#: How long a schedule counts as declared, at least, after the last round of a process that declares it. A process may
#: be replaced meanwhile.
MIN_DECLARED_FOR = timedelta(minutes=1)


def declared_until(declaration: ScheduleDeclaration, now: datetime) -> datetime:
    """Return until when a schedule counts as declared by a process that declares it now.

    Twice the grace, of which one is always left, so that rounds seldom write it.
    """
    return now + 2 * _declared_for(declaration)


def extend_declarations(
    rows: Iterable[Schedule], declared: Mapping[str, ScheduleDeclaration], now: datetime
) -> None:
    """Extend ``declared_until`` of schedules that this process declares, where less than their grace is left."""
    names: dict[datetime, list[str]] = defaultdict(list)
    for row in rows:
        declaration = declared[row.name]
        if row.declared_until < now + _declared_for(declaration):
            names[declared_until(declaration, now)].append(row.name)
    for until, extended in names.items():
        same = Schedule.objects.using(database()).filter(name__in=extended, declared_until__lt=until)
        retrying_atomic(partial(same.update, declared_until=until))


def record_undeclared(rows: Iterable[Schedule], now: datetime) -> None:
    """Record the tick that was due as missed, of schedules that no process has declared for longer than their grace.

    Once: such a schedule was removed, or the processes that declare it are away. It is due again from its next
    declaration on.
    """
    names = [
        row.name
        for row in rows
        if row.next_tick and row.next_tick < now and row.declared_until < now and row.paused_at is None
    ]
    for chunk in chunks(names, runs.MAX_SCHEDULES_PER_TRANSACTION):
        retrying_atomic(partial(_record_missed, chunk, now), idle_seconds=runs.MAX_IDLE_SECONDS)


def _record_missed(names: list[str], now: datetime) -> None:
    due = Schedule.objects.using(database()).filter(
        name__in=names, next_tick__lt=now, declared_until__lt=now, paused_at__isnull=True
    )
    for row in lock_query(due.order_by("name")):
        moment = row.next_tick
        row.next_tick, row.last_tick = None, moment
        ticks = Tick.objects.using(database()).filter(schedule_id=row.name, due_at=moment)
        if not ticks.exists():  # else a backup was restored
            detail = "Within its grace no process has declared the schedule in NOTIFICATIONS['SCHEDULES']."
            insert_tick(row.name, moment, Tick.Outcome.MISSED, now, detail=detail)
            runs.note_missed(row, 1, moment, now)
        row.save(using=database())


def _declared_for(declaration: ScheduleDeclaration) -> timedelta:
    return max(declaration.grace, MIN_DECLARED_FOR)
