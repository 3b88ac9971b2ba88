"""Enqueue one job for each tick that is due, in the transaction that records the tick.

Every process that runs jobs or dispatches them calls ``run_round()``. It takes the time from the database's clock, so
that machines whose clocks differ agree.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from notifications.contrib.schedules import runs, stored, undeclared
from notifications.contrib.schedules.declarations import (
    ScheduleDeclaration,
    declared_schedules,
    wrong_declarations,
)
from notifications.contrib.schedules.enqueueing import ScheduledCall, insert_tick
from notifications.contrib.schedules.models import Schedule, Tick
from notifications.contrib.schedules.stored import isolate
from notifications.contrib.schedules.tasks import find_wrong_schedules
from notifications.db import database, database_now, lock_query, retrying_atomic
from notifications.extension import Duty, Upkeep, Where

logger = logging.getLogger("notifications.jobs")

#: Seconds between two rounds, unless a schedule is due before.
ROUND_INTERVAL_SECONDS = 1.0
#: Seconds until the next round while other processes have locked schedules that are due. They may be killed in it.
LOCKED_RETRY_SECONDS = 0.1
#: Schedules that are due, of which one round prepares the calls.
MAX_PREPARED_PER_ROUND = 100
#: When the timing of a schedule changes, ticks of the new one that are older are not due. During a rolling deployment
#: processes with both timings change it back and forth, and must not skip a tick that the others have just not seen.
TIMING_CHANGE_OVERLAP = timedelta(minutes=1)
#: The smallest difference of two times.
INSTANT = timedelta(microseconds=1)

#: Whether this process has imported the tasks of schedules before its first round.
_has_imported_tasks = False
#: Messages about declarations that this process has logged.
_logged: set[str] = set()
#: Since when a schedule is declared with a timing in this process, by its name and the text of the timing.
_declared_since: dict[tuple[str, str], datetime] = {}
#: When this process last prepared the call of a schedule (monotonic), by its name.
_prepared_at: dict[str, float] = {}
#: The schedules whose calls are being prepared, by code of the project that may never return. Others must not wait for
#: them, nor the next round stand in the same code.
_being_prepared: set[str] = set()


def make_duties(process: Upkeep) -> list[Duty]:
    """See ``Extension.duties()``."""
    name, start = "enqueue jobs of schedules", process.project_threads.start
    return [
        Duty(name, 0, run_worker_round, Where.WORKER, has_own_loop=True),
        Duty(
            name,
            0,
            lambda: start(run_worker_round, "Could not enqueue jobs of schedules", may_be_stuck=True),
            Where.ENGINE,
            is_for_each_process=True,
        ),
        stored.make_duty(),
    ]


def run_worker_round() -> float:
    """Import the tasks of schedules, once in a process, and run a round.

    It calls code of the project: policies, receivers of ``task_enqueued``, managers of users. Importing tasks may take
    seconds, in which the transaction of a tick would hold its row.
    """
    global _has_imported_tasks
    if not _has_imported_tasks:
        find_wrong_schedules()
        _has_imported_tasks = True
    return run_round()


def run_round() -> float:
    """Record the ticks that are due, then the ends of their jobs. Return the seconds until the next round.

    Raises ``django.db.Error`` when the database is unavailable.
    """
    for wrong in wrong_declarations():
        _log_once("A schedule is not declared correctly: %s %s", wrong.message, wrong.hint)
    now = database_now()
    try:
        return min(_run_declared(now), _run_stored(now))
    finally:
        runs.record_ends()


def _run_declared(now: datetime) -> float:
    """Record the ticks that are due of declared schedules. Return the seconds until another one may be due."""
    declared = declared_schedules()
    found = read_rows(declared)
    undeclared.record_undeclared([row for name, row in found.items() if name not in declared], now)
    rows = {name: row for name, row in found.items() if name in declared}
    undeclared.extend_declarations(rows.values(), declared, now)
    due = []
    for row in sorted(rows.values(), key=lambda row: row.next_tick or now):
        declaration = declared[row.name]
        since = _declared_since.setdefault((row.name, str(declaration.timing)), now)
        is_wrong = row.next_tick and declaration.timing.is_beyond_next(row.next_tick, now)
        if row.next_tick is None or is_wrong or row.timing != str(declaration.timing):
            change = partial(_set_timing, row, declaration, since, now)
            row = isolate([row.name], change) or row
        if row.paused_at is None and row.next_tick and row.next_tick <= now:
            due.append(row)
    pause = _record_due_ticks(due, declared, now)
    # Those that were due are due again at the tick after it, which may be less than a second away.
    names = {row.name for row in due}
    moments = (
        declared[row.name].timing.next_tick(now) if row.name in names else row.next_tick
        for row in rows.values()
        if row.next_tick and row.paused_at is None
    )
    pauses = [(moment - now).total_seconds() for moment in moments if moment]
    return min([pause, *pauses])


def _run_stored(now: datetime) -> float:
    """Record the ticks that are due of stored schedules. Return the seconds until another one may be due."""
    soon = now + timedelta(seconds=ROUND_INTERVAL_SECONDS)
    rows = stored.read_due(soon, now, MAX_PREPARED_PER_ROUND + 1)
    seconds = {row.name: stored.seconds_until(row, now) for row in rows}
    due = [row for row in rows if seconds[row.name] <= 0]
    declarations = stored.read_declarations(due)
    of_due = [(row, declarations[row.name]) for row in due if row.name in declarations]
    answers = {row.name: isolate([row.name], partial(stored.has_owner, row, each)) for row, each in of_due}
    stored.pause_without_owner([name for name, answer in answers.items() if answer is False], now)
    stored.put_off([row.name for row in due if answers.get(row.name) is None], now)
    ready = [row for row in due if answers.get(row.name)]
    pause = _record_due_ticks(ready, declarations, now)
    if len(ready) < len(due) > MAX_PREPARED_PER_ROUND:
        pause = min(pause, LOCKED_RETRY_SECONDS)
    return min([pause, *(each for each in seconds.values() if each > 0)])


def read_rows(declared: Mapping[str, ScheduleDeclaration]) -> dict[str, Schedule]:
    """Return the rows of schedules that are not stored ones, by name. Those of declared ones are inserted."""
    rows = Schedule.objects.using(database())
    sql = f"SELECT * FROM {Schedule._meta.db_table} WHERE options IS NULL"
    found = {row.name: row for row in rows.raw(sql)}
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
                declared_until=undeclared.declared_until(declaration, now),
            )
            for declaration in missing
        ]
        retrying_atomic(lambda: rows.bulk_create(made, ignore_conflicts=True))
        found |= {row.name: row for row in rows.filter(name__in=[row.name for row in made])}
    return found


def _set_timing(
    row: Schedule, declaration: ScheduleDeclaration, declared_since: datetime, now: datetime
) -> Schedule:
    """Compute the next tick of a schedule whose timing has changed, or which has none or an impossible one.

    It is due from its declaration on: of the ticks since, the newest one is due if it is recent, and none was missed.
    """
    timing = declaration.timing
    if row.timing == str(timing):
        next_tick = timing.next_tick(now)
        if next_tick is None:
            return row  # a cron expression without a tick in the next 50 years
    else:
        since = max(declared_since, now - min(TIMING_CHANGE_OVERLAP, declaration.grace))
        next_tick = timing.newest_tick(max(since, row.last_tick or since), now) or timing.next_tick(now)

    def write() -> None:
        same = Schedule.objects.using(database()).filter(name=row.name, timing=row.timing)
        same = same.filter(next_tick=row.next_tick) if row.next_tick else same.filter(next_tick__isnull=True)
        same.update(timing=str(timing), task_path=declaration.task_path, next_tick=next_tick)

    retrying_atomic(write)
    found = Schedule.objects.using(database()).get(name=row.name)
    return found if found.timing == str(timing) else row


def read_of(row: Schedule) -> tuple[object, ...]:
    """Return the columns of a row that say when it is due, and what its job does and whose it is."""
    return row.next_tick, row.timing, row.options, row.user_id


class DueTicks:
    """The ticks of a schedule that are due, computed before the transaction that records them.

    Of a hostile cron expression this takes up to a second.
    """

    def __init__(self, row: Schedule, declaration: ScheduleDeclaration, now: datetime) -> None:
        timing = declaration.timing
        assert row.next_tick is not None
        self.read, self.now = read_of(row), now
        before, self.first_missed = row.next_tick - INSTANT, row.next_tick
        # ``next_tick`` was set back by hand: what is recorded was not missed. A last tick to come is of a wrong clock.
        if row.last_tick and before < row.last_tick <= now:
            before, self.first_missed = row.last_tick, timing.next_tick(row.last_tick) or now
        self.task_path = declaration.task_path
        self.newest = timing.newest_tick(before, now) or max(row.next_tick, before)
        self.next = timing.next_tick(self.newest)
        is_run = now - self.newest <= declaration.grace
        self.missed_until = timing.newest_tick(before, self.newest - INSTANT) if is_run else self.newest
        self.missed = timing.count_ticks(before, self.missed_until) if self.missed_until else 0
        self.call = ScheduledCall(declaration) if is_run else None

    def record(self, row: Schedule, active: int, recorded: Collection[datetime]) -> None:
        """Enqueue the job of the newest tick, if it is within the grace, and record the others as missed.

        The caller has locked the row. ``active`` is how many of its jobs are active. Ticks that are ``recorded`` exist
        already, as after a restored backup or a change by hand, or because a clock was fast.
        """
        row.next_tick, row.last_tick, row.task_path = self.next, self.newest, self.task_path
        row.timed_at, row.put_off_until = self.now, None
        if self.missed and self.missed_until and self.missed_until not in recorded:
            insert_tick(
                row.name,
                self.missed_until,
                Tick.Outcome.MISSED,
                self.now,
                count=self.missed,
                first_due_at=self.first_missed if self.missed > 1 else None,
            )
            runs.note_missed(row, self.missed, self.missed_until, self.now)
        if self.call and self.newest not in recorded:
            self.call.enqueue(row, self.newest, self.now, active)
        row.save(using=database())


def _record_due_ticks(
    due: Sequence[Schedule], declared: Mapping[str, ScheduleDeclaration], now: datetime
) -> float:
    """Record the ticks of schedules that are due. Return the seconds until the next round.

    Of many it takes those that waited longest for it: ones that cannot be prepared stay due, and would come first.
    """
    prepared, failed = {}, set()
    started = time.monotonic()
    due = [row for row in due if row.name not in _being_prepared]
    for row in sorted(due, key=lambda row: _prepared_at.get(row.name, 0))[:MAX_PREPARED_PER_ROUND]:
        if not row.is_stored:
            _prepared_at[row.name] = started
        # A process with another declaration may have set the timing meanwhile.
        if row.timing == str(declared[row.name].timing):
            _being_prepared.add(row.name)
            try:
                ticks = isolate([row.name], partial(DueTicks, row, declared[row.name], now))
            finally:
                _being_prepared.discard(row.name)
            if ticks:
                prepared[row.name] = ticks
            else:
                failed.add(row.name)
    stored.put_off(failed, now)
    if not prepared:
        return ROUND_INTERVAL_SECONDS
    pause, has_claimed = ROUND_INTERVAL_SECONDS, False
    groups = [prepared]
    for group in groups:
        claim = partial(retrying_atomic, partial(_claim, group, now), idle_seconds=runs.MAX_IDLE_SECONDS)
        while group and (claimed := isolate(list(group), claim)):
            has_claimed = True
            for name in claimed:
                del group[name]
        if group and claimed is None and len(group) > 1:  # it failed at one of them
            groups += [{name: ticks} for name, ticks in group.items()]
        elif group and claimed is None:
            stored.put_off(group, now)
        elif group:
            pause = LOCKED_RETRY_SECONDS
    return 0 if has_claimed and len(due) > MAX_PREPARED_PER_ROUND else pause


def _claim(prepared: Mapping[str, DueTicks], now: datetime) -> list[str]:
    """Lock schedules that are due and that no other process records, and record their ticks. Return their names."""
    due = Schedule.objects.using(database()).filter(
        name__in=list(prepared), next_tick__lte=now, paused_at__isnull=True
    )
    claimed = [
        row
        for row in lock_query(due.order_by("next_tick", "name"))[: runs.MAX_SCHEDULES_PER_TRANSACTION]
        if read_of(row) == prepared[row.name].read
    ]
    if not claimed:
        return []
    names = [row.name for row in claimed]
    moments = {moment for name in names for moment in (prepared[name].newest, prepared[name].missed_until)}
    ticks = Tick.objects.using(database()).filter(
        schedule_id__in=names, due_at__in=[moment for moment in moments if moment]
    )
    existing = defaultdict(set)
    for name, moment in ticks.values_list("schedule_id", "due_at"):
        existing[name].add(moment)
    active = runs.count_active(names)
    for row in claimed:
        prepared[row.name].record(row, active.get(row.name, 0), existing[row.name])
    return names


def _log_once(message: str, *values: str) -> None:
    if (text := message % values) not in _logged:
        _logged.add(text)
        logger.error("%s", text)
