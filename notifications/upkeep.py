"""Upkeep: what must be done every so often for all jobs and streams, whatever processes there are.

``duties.py`` lists what, with the duties of extensions. Each process that lasts has an ``Upkeep``, which does the
duties of such a process when they are due. What one process does for all is elected by the row of the duty, a
``DutyRun``: the process that stores that it runs the duty now, by an UPDATE conditional on the time that it has read,
does it. A process that ends in a duty, or a time that a wrong clock has stored, delays the duty by its interval at
most.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, cast

from django.db import Error

from notifications.db.clock import database_now
from notifications.db.project_threads import ProjectThreads
from notifications.db.sqlstates import is_not_migrated
from notifications.db.transactions import connection, database, retrying_atomic, try_write
from notifications.db.unavailable import (
    QUERY_ERRORS,
    is_unavailable,
    log_if_not_migrated,
    log_retried,
)
from notifications.extension.duty import MAX_DUTY_PAUSE_SECONDS, Duty, Subjects, Where, pause_after
from notifications.extension.log_throttle import is_log_due
from notifications.models import DutyRun

logger = logging.getLogger("notifications.jobs")

#: Seconds for which a call of ``run_first()`` goes on to the next duty: an outcome waits no longer than that for them.
FURTHER_SECONDS = 0.005
#: A stored time that is further ahead of the database's clock was stored while that clock was wrong.
MAX_AHEAD = timedelta(seconds=1)
#: A duty is overdue after so many of its intervals, and these seconds: its process may have ended in it.
OVERDUE_INTERVALS, OVERDUE_SECONDS = 3, 60.0


class Upkeep:
    """The duties of one process.

    ``seconds``
        How long a duty with much to do may take in one round; with 0 it does one chunk.
    ``may_reap``
        Returns whether this process may declare workers lost whose leases are over.
    ``on_requeued``
        Called when jobs of lost workers were queued again.
    """

    def __init__(
        self,
        where: Where,
        *,
        seconds: float,
        may_reap: Callable[[], bool] = lambda: False,
        on_requeued: Callable[[], object] = lambda: None,
    ) -> None:
        self.where = where
        self.seconds = seconds
        self.may_reap = may_reap
        self.on_requeued = on_requeued
        self.project_threads = ProjectThreads()
        self._project_calls: dict[Duty, Callable[[], bool]] = {}
        duties = [duty for duty in list_duties(self) if where & duty.where]
        self.duties = [duty for duty in duties if not duty.has_own_loop]
        self.own_loops = [duty for duty in duties if duty.has_own_loop]

    def run_round(self) -> None:
        """Do what is due. Where migrations are not applied the round ends.

        Raises an error that means that the database is unavailable: see ``is_unavailable()``.
        """
        try:
            for duty in elect(self._leave_out_idle(self.find_due())):
                self.run(duty)
        except Error as exc:
            if not log_if_not_migrated(exc):
                raise

    def find_due(self) -> list[Duty]:
        """Return the duties that are due, those first that have waited longest: a round may end before its last one."""
        now = time.monotonic()
        return sorted((duty for duty in self.duties if duty.due_at <= now), key=lambda duty: duty.due_at)

    def run_first(self, duties: list[Duty]) -> list[Duty]:
        """Do the first of these duties, and further ones within ``FURTHER_SECONDS``; remove them from the list.

        Those that another process does are removed too. Returns those that have more to do. Most find nothing: a call
        of the writer for each took longer than they do. Raises like ``run()``.
        """
        unfinished = []
        stop_at = time.monotonic() + FURTHER_SECONDS
        duties[:] = elect(self._leave_out_idle(duties))
        while duties:
            duty = duties.pop(0)
            if self.run(duty):
                unfinished.append(duty)
            if time.monotonic() > stop_at:
                break
        return unfinished

    def _leave_out_idle(self, duties: list[Duty]) -> list[Duty]:
        """Return these duties without those whose conditions say that there is nothing to do, which are done."""
        # Two duties about the same rows have the same condition.
        conditions = {function: function() for function in (duty.condition for duty in duties) if function}
        if not conditions:
            return duties
        sql = ", ".join(f"({condition})" for condition, _ in conditions.values())
        try:
            with connection().cursor() as cursor:
                cursor.execute(
                    f"SELECT {sql}", [param for _, params in conditions.values() for param in params]
                )
                row = cursor.fetchone()
        except QUERY_ERRORS as exc:
            log_retried(logger, "Could not read which duties have something to do", exc)
            return duties  # each fails by itself, if it is about its rows
        is_needed = dict(zip(conditions, row, strict=True))
        idle = {duty for duty in duties if duty.condition and not is_needed[duty.condition]}
        for duty in idle:
            duty.due_at, duty._has_more = time.monotonic() + (duty.interval or 0), False
            duty.claimed = None
            if duty.subjects:
                duty.subjects.forget()
        return [duty for duty in duties if duty not in idle]

    def run(self, duty: Duty) -> bool:
        """Do a duty, and return whether it has more to do. Its error is logged, also one that is there for good.

        Raises an error that means that the database is unavailable, or not migrated.
        """
        started = time.monotonic()
        duty.due_at, duty._has_more = started + (duty.interval or 0), False
        try:
            if duty.subjects and duty.subjects.calls_project:
                run = self._project_calls.setdefault(
                    duty, partial(self._run_subjects, duty, duty.subjects, 0.0)
                )
                self.project_threads.start(run, f"Could not {duty.name}")
            elif duty.subjects:
                duty._has_more = self._run_subjects(duty, duty.subjects, started + self.seconds)
            else:
                duty._has_more = duty.run() is True
            duty._failures = 0
        except Exception as exc:
            if is_unavailable(exc):
                duty.due_at = time.monotonic()
                raise
            duty._failures += 1
            pause = pause_after(duty._failures, MAX_DUTY_PAUSE_SECONDS)
            duty.due_at = max(duty.due_at, started + pause)
            logger.exception("Could not %s, which is tried again", duty.name)
        if duty._has_more:
            duty.due_at = started
        else:
            duty.claimed = None
        duty.at_start = False
        return duty._has_more

    def _run_subjects(self, duty: Duty, subjects: Subjects, stop_at: float) -> bool:
        """Do a duty for its subjects, at least for one list, until ``stop_at``. Return whether there may be more."""
        while group := subjects.take():
            try:
                left = duty.run(group)
            except Exception as exc:
                if is_unavailable(exc):
                    subjects.forget()
                    _raise_if_away(exc)
                if subjects.fail(group) and is_log_due(f"duty {duty.name}"):
                    # A directory or a database that is away has one line, and no traceback.
                    trace = None if isinstance(exc, Error | OSError) else exc
                    text, error = "Could not %s, which is tried again: %s: %s", " ".join(str(exc).split())
                    logger.error(text, duty.name, group[0], error, exc_info=trace)
            else:
                subjects.finish(group)
                subjects.add(cast("Iterable[Any]", left or ()))
            if time.monotonic() >= stop_at:
                return True
        return False

    def run_chunks(self, run_chunk: Callable[[], object]) -> bool:
        """Run chunks for ``seconds``. Return whether there may be more."""
        stop_at = time.monotonic() + self.seconds
        while run_chunk():
            if time.monotonic() >= stop_at:
                return True
        return False


def _raise_if_away(exc: Exception) -> None:
    """Raise an error that means that the database is unavailable, unless it takes writes: a subject is at fault."""
    if not isinstance(exc, Error) or is_not_migrated(exc):
        raise exc
    try_write()


#: Returns the duties of a new process. ``duties.py`` sets it, because it knows all parts of the core.
list_duties: Callable[[Upkeep], Iterable[Duty]] = lambda upkeep: ()  # noqa: E731


def elect(duties: Sequence[Duty]) -> list[Duty]:
    """Return those of these due duties that this process does now; the others are due in it later.

    Without a duty that is elected it uses no database, and it writes only what this process then does, in one
    transaction for all. Where migrations are not applied, no process is elected. Raises ``django.db.Error``.
    """
    now = time.monotonic()
    open_duties = [
        duty
        for duty in duties
        if not (duty.is_for_each_process or duty.at_start or (duty.claimed and now < duty.claimed_until))
    ]
    if not open_duties:
        return list(duties)
    rows = DutyRun.objects.using(database())
    try:
        runs: dict[str, datetime] = dict(rows.values_list("name", "last_run_at"))
    except QUERY_ERRORS as exc:
        if not log_if_not_migrated(exc):
            raise
        # A deploy may start processes before it migrates. The others have been there before.
        return [duty for duty in duties if duty not in open_duties]
    moment = database_now()  # read after the rows, so no time in them is later
    candidates, missing = [], []
    for duty in open_duties:
        interval = duty.interval
        last = runs.get(duty.name)
        renewed = duty.claimed if duty._has_more else None
        if interval is None or last is None:
            duty.due_at, duty.claimed = now + (interval or OVERDUE_SECONDS), None
            if interval is not None:
                missing.append(DutyRun(name=duty.name, last_run_at=moment))
        elif renewed or last > moment + MAX_AHEAD or moment - last >= timedelta(seconds=interval):
            candidates.append((duty, renewed or last, interval))
        else:
            duty.due_at = now + interval - (moment - last).total_seconds()
            if duty.claimed:
                # It has failed in this process again and again: others are given time to do it.
                duty.due_at, duty.claimed = duty.due_at + interval / 2, None
    if missing:
        retrying_atomic(lambda: rows.bulk_create(missing, ignore_conflicts=True))
    if candidates:
        candidates.sort(key=lambda candidate: candidate[0].name)  # the order of locks

        def claim() -> list[int]:
            return [
                rows.filter(name=duty.name, last_run_at=last).update(last_run_at=moment)
                for duty, last, _ in candidates
            ]

        for (duty, last, interval), is_claimed in zip(candidates, retrying_atomic(claim), strict=True):
            duty.previous_run = last
            duty.claimed = moment if is_claimed else None
            # A long run stores that it goes on before another process may take it over.
            duty.claimed_until = now + interval / 2
            if not is_claimed:
                duty.due_at = now + interval
    return [duty for duty in duties if duty not in open_duties or duty.claimed]


class DutyAge(NamedTuple):
    """How long ago a duty was last run, in seconds; None: never."""

    name: str
    every: float
    seconds: float | None
    is_overdue: bool


def read_ages() -> list[DutyAge]:
    """Return the duties that one process does for all, with when they were last run."""
    runs: dict[str, datetime] = dict(DutyRun.objects.using(database()).values_list("name", "last_run_at"))
    moment = database_now()
    ages = []
    for duty in Upkeep(Where.LASTING, seconds=0).duties:
        interval = duty.interval
        if duty.is_for_each_process or duty.condition or interval is None:
            continue  # nothing is known of the age of a duty that is run only if there is something to do
        last = runs.get(duty.name)
        seconds = None if last is None else (moment - last).total_seconds()
        is_overdue = seconds is not None and not (
            -MAX_AHEAD.total_seconds() <= seconds <= OVERDUE_INTERVALS * interval + OVERDUE_SECONDS
        )
        ages.append(DutyAge(duty.name, interval, seconds, is_overdue))
    return ages
