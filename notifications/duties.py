"""The duties of all parts of the app, in one list: see ``upkeep.py``. A new one is an entry of it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from notifications import streams, times
from notifications.conf import settings
from notifications.db.transactions import fair_atomic, retrying_atomic
from notifications.deliveries import sending
from notifications.engines import dispatching
from notifications.jobs.transitions import batch_completion, finishing, manual, reaping, reminders, waiting
from notifications.operations.alerts import evaluation
from notifications.operations.alerts.conditions import Limits, read_limits
from notifications.operations.announcing import announcer
from notifications.schedules import ticks
from notifications.statistics import roll_up
from notifications.streams import snoozing
from notifications.streams.marking_all import continue_marking
from notifications.streams.retention import Pruning
from notifications.upkeep import LASTING, Duty, Upkeep, Where
from notifications.worker.lease import find_dead_neighbors

logger = logging.getLogger("notifications.jobs")

#: Seconds between two prunings, and from the start of a process to its first one.
PRUNE_INTERVAL_SECONDS, FIRST_PRUNE_DELAY_SECONDS = 3600.0, 60.0
#: Seconds between two roll-ups of statistics.
ROLL_UP_INTERVAL_SECONDS = 60.0
#: Seconds from the start of a process to its first evaluation of alerts and roll-up, at most. A process that lives for
#: one job would begin what others have time for.
MAX_FIRST_DELAY_SECONDS = 15.0
#: Seconds between two moves of jobs whose backend has gained or lost its engine.
MOVE_INTERVAL_SECONDS = 60.0
#: Seconds between two looks for deliveries whose job has ended without them.
ORPHAN_CHECK_INTERVAL_SECONDS = 60.0
#: Seconds between two searches for waiting jobs that have nothing to wait for.
WAIT_CHECK_INTERVAL_SECONDS = 60.0
#: Seconds between two searches for users who may answer open questions by now, or may not any more.
QUESTION_CHECK_INTERVAL_SECONDS = 300.0
EVERYWHERE = LASTING | Where.SERVER


def list_duties(process: Upkeep) -> list[Duty]:
    """Return all duties. ``process`` does those of its kind."""
    start, announce = process.project_threads.start, announcer.Announcer().run_round
    alerts = Duty(
        "evaluate alerts", _alert_interval, lambda: evaluation.evaluate(alerts.previous_run), EVERYWHERE
    )
    roll_up_statistics = Duty("roll up statistics", ROLL_UP_INTERVAL_SECONDS, lambda: _roll_up(process))
    for duty in (alerts, roll_up_statistics):
        duty.due_at += min(duty.interval or 0.0, MAX_FIRST_DELAY_SECONDS) * random.uniform(0.5, 1)
    prune = Duty("prune old rows", PRUNE_INTERVAL_SECONDS, _PruneDuty(process).run)
    prune.due_at += FIRST_PRUNE_DELAY_SECONDS * random.uniform(1, 2)
    # At the start too, because the settings may have changed. Processes with the earlier ones may go on to enqueue.
    move = Duty("move jobs to their engines", MOVE_INTERVAL_SECONDS, _move_jobs, at_start=True)
    orphaned = Duty("fail abandoned deliveries", ORPHAN_CHECK_INTERVAL_SECONDS, sending.fail_orphaned)
    check_waits = _Search(waiting.queue_jobs_without_wait)
    remind = partial(_run_all, reminders.remind_of_due)
    update_addressees = partial(_run_all, _Search(reminders.update_addressees).run_chunk)
    enqueue_deliveries = partial(_run_all, sending.enqueue_due)
    waits = Duty(
        "queue jobs that wait for nothing",
        WAIT_CHECK_INTERVAL_SECONDS,
        lambda: process.run_chunks(check_waits.run_chunk),
    )
    questions = Duty(
        "update who is asked open questions",
        QUESTION_CHECK_INTERVAL_SECONDS,
        lambda: start(update_addressees, "Could not update who is asked open questions"),
    )
    elected = [alerts, roll_up_statistics, prune, move, orphaned, waits, questions]
    # They find nothing to do by one small read, or concern the process itself. Where several find the same, the rows
    # decide: they are locked, or change once.
    for_each_process = [
        Duty(
            "number pending changes",
            0,
            streams.number_pending,
            EVERYWHERE,
            condition=streams.pending_condition,
        ),
        Duty("take jobs from lost workers", 0, lambda: _reap(process), condition=reaping.lost_jobs_condition),
        Duty(
            "end waits that are due",
            0,
            lambda: process.run_chunks(waiting.end_due_waits),
            condition=waiting.due_condition,
        ),
        Duty(
            "remind of open questions",
            0,
            lambda: start(remind, "Could not remind of open questions"),
            condition=reminders.due_condition,
        ),
        Duty(
            "raise snoozed notifications",
            0,
            lambda: process.run_chunks(snoozing.raise_due),
            EVERYWHERE,
            condition=snoozing.due_condition,
        ),
        Duty(
            "resume cancellations of batches",
            0,
            manual.resume_batch_cancellations,
            condition=batch_completion.remaining_condition,
        ),
        Duty(
            "finish batches",
            0,
            finishing.finish_remaining_batches,
            condition=batch_completion.remaining_condition,
        ),
        Duty(
            "enqueue deliveries",
            sending.INTERVAL_SECONDS,
            lambda: start(enqueue_deliveries, "Could not enqueue deliveries"),
            condition=sending.due_condition,
        ),
        Duty(
            "mark notifications as read",
            0,
            lambda: _mark(process),
            EVERYWHERE,
            condition=lambda: ("EXISTS (SELECT 1 FROM notifications_pendingmark)", ()),
        ),
        Duty(
            "announce alerts and schedules",
            announcer.ROUND_INTERVAL_SECONDS,
            lambda: start(announce, "Could not announce alerts and schedules"),
            EVERYWHERE,
        ),
        # Workers do so in a loop of its own, because a tick may be due within milliseconds.
        Duty(
            "enqueue jobs of schedules",
            0,
            lambda: start(ticks.run_round, "Could not enqueue jobs of schedules", may_be_stuck=True),
            LASTING & ~Where.WORKER,
        ),
    ]
    for duty in for_each_process:
        duty.is_for_each_process = True
    return [*for_each_process, *elected]


def _alert_interval() -> float | None:
    try:
        return read_limits().interval
    except ImproperlyConfigured:
        return Limits().interval  # the evaluation raises it too, and that is logged


def _reap(process: Upkeep) -> None:
    if reaping.reap_jobs(find_dead_neighbors(), expired=process.may_reap()):
        process.on_requeued()


def _mark(process: Upkeep) -> bool:
    # With one chunk a round, other work comes in between.
    return continue_marking(process.seconds, fair_atomic if process.seconds else retrying_atomic)


def _run_all(run_chunk: Callable[[], bool]) -> None:
    """Run chunks until there are no more: on a thread for code of the project, where no other duty waits."""
    while run_chunk():
        pass


def _roll_up(process: Upkeep) -> bool:
    return process.run_chunks(lambda: roll_up.roll_up_chunk() or roll_up.delete_chunk())


def _move_jobs() -> None:
    if moved := dispatching.move_to_configured_executors():
        logger.info("Moved queued jobs between the built-in worker and engines: %d", moved)


class _PruneDuty:
    """One pruning after the other, each over several rounds: it knows what it has looked at."""

    def __init__(self, process: Upkeep) -> None:
        self._process = process
        self._pruning: Pruning | None = None
        self._pruned = 0

    def run(self) -> bool:
        self._pruning = self._pruning or Pruning(times.now() - settings.RETENTION, run=retrying_atomic)
        has_more = self._process.run_chunks(self._prune_chunk)
        if not has_more:
            if self._pruned:
                logger.info("Pruned rows past their retention: %d", self._pruned)
            self._pruning, self._pruned = None, 0
        return has_more

    def _prune_chunk(self) -> bool:
        assert self._pruning is not None
        count = self._pruning.prune_chunk()
        self._pruned += count or 0
        return count is not None


class _Search:
    """One search after the other, each in chunks: a chunk takes the position of the last one, and returns the next."""

    def __init__(self, search: Callable[[Any], Any]) -> None:
        self._search = search
        self._after: Any = None

    def run_chunk(self) -> bool:
        self._after = self._search(self._after)
        return self._after is not None
