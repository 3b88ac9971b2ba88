"""The duties of all parts of the core, and those of extensions: see ``upkeep.py``."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

from notifications import streams, times
from notifications.conf import settings
from notifications.db import sqlstates
from notifications.db.transactions import fair_atomic, retrying_atomic
from notifications.extension import Duty, Where, hooks
from notifications.extension.installed import list_apps
from notifications.jobs import announcing
from notifications.jobs.transitions import (
    batch_completion,
    expiring,
    limit_openings,
    manual,
    queueing,
    reaping,
    recording,
    waiting,
)
from notifications.streams import snoozing
from notifications.streams.marking_all import continue_marking, pending_condition
from notifications.streams.retention import Pruning
from notifications.upkeep import Upkeep
from notifications.worker.lease import find_dead_neighbors

logger = logging.getLogger("notifications.jobs")

#: Seconds between two prunings, and from the start of a process to its first one.
PRUNE_INTERVAL_SECONDS, FIRST_PRUNE_DELAY_SECONDS = 3600.0, 60.0
#: Seconds between two searches for waiting jobs that have nothing to wait for.
WAIT_CHECK_INTERVAL_SECONDS = 60.0


class _Search:
    """One search after the other, each in chunks: a chunk takes the position of the last one, and returns the next."""

    def __init__(self, search: Callable[[Any], Any]) -> None:
        self._search = search
        self._after: Any = None

    def run_chunk(self) -> bool:
        self._after = self._search(self._after)
        return self._after is not None


def list_duties(process: Upkeep) -> list[Duty]:
    """Return all duties. ``process`` does those of its kind."""
    prune = Duty("prune old rows", PRUNE_INTERVAL_SECONDS, _PruneDuty(process).run)
    prune.due_at += FIRST_PRUNE_DELAY_SECONDS * random.uniform(1, 2)
    line_check = limit_openings.LineCheck()
    check_waits = _Search(waiting.queue_jobs_without_wait)

    def run_chunks(run_chunk: Callable[[], object]) -> Callable[[], bool]:
        return lambda: process.run_chunks(run_chunk)

    remaining = batch_completion.remaining_condition
    # They find nothing to do by one small read, or concern the process itself. Where several find the same, the rows
    # decide: they are locked, or change once.
    for_each_process = [
        Duty(
            "number pending changes",
            0,
            streams.number_pending,
            Where.EVERYWHERE,
            condition=streams.pending_condition,
        ),
        # Workers do it in a loop of their own, when the jobs are due.
        Duty(
            "queue jobs that are due",
            0,
            run_chunks(lambda: queueing.queue_due_jobs() == 0),
            Where.EVERYWHERE & ~Where.WORKER,
            condition=queueing.due_jobs_condition,
        ),
        Duty(
            "open limits that jobs wait for",
            0,
            run_chunks(lambda: limit_openings.open_limits() == 0),
            Where.EVERYWHERE,
            condition=limit_openings.opened_limits_condition,
        ),
        Duty(
            "check limits that jobs wait for",
            lambda: line_check.interval,
            run_chunks(line_check.run_chunk),
            Where.EVERYWHERE,
            condition=limit_openings.waiting_condition,
        ),
        Duty("take jobs from lost workers", 0, lambda: _reap(process), condition=reaping.lost_jobs_condition),
        Duty("end waits that are due", 0, run_chunks(waiting.end_due_waits), condition=waiting.due_condition),
        Duty(
            "end expired jobs",
            0,
            run_chunks(expiring.end_expired_jobs),
            Where.EVERYWHERE,
            condition=expiring.expired_condition,
        ),
        Duty(
            "raise snoozed notifications",
            0,
            run_chunks(snoozing.raise_due),
            Where.EVERYWHERE,
            condition=snoozing.due_condition,
        ),
        Duty("resume cancellations of batches", 0, manual.resume_batch_cancellations, condition=remaining),
        Duty("finish batches", 0, recording.finish_remaining_batches, condition=remaining),
        Duty(
            "mark notifications as read",
            0,
            lambda: _mark(process),
            Where.EVERYWHERE,
            condition=pending_condition,
        ),
    ]
    if hooks.checks:
        start, announce = process.project_threads.start, announcing.Announcer().run_round
        start_round = partial(start, announce, "Could not announce problems", may_be_stuck=True)
        for_each_process.append(
            Duty("announce problems", announcing.ROUND_INTERVAL_SECONDS, start_round, Where.EVERYWHERE)
        )
    for duty in for_each_process:
        duty.is_for_each_process = True
    return [
        *for_each_process,
        prune,
        Duty(
            "queue jobs that wait for nothing", WAIT_CHECK_INTERVAL_SECONDS, run_chunks(check_waits.run_chunk)
        ),
        # At the start too, because an app may be installed again.
        Duty(
            "cancel waits of ended jobs",
            PRUNE_INTERVAL_SECONDS,
            run_chunks(waiting.cancel_left_waits),
            at_start=True,
        ),
        *chain.from_iterable(hook(process) for hook in hooks.duties),
    ]


def _reap(process: Upkeep) -> None:
    if reaping.reap_jobs(find_dead_neighbors(), expired=process.may_reap()):
        process.on_requeued()


def _mark(process: Upkeep) -> bool:
    # With one chunk a round, other work comes in between.
    return continue_marking(process.seconds, fair_atomic if process.seconds else retrying_atomic)


class _PruneDuty:
    """One pruning after the other, each over several rounds: it knows what it has looked at."""

    def __init__(self, process: Upkeep) -> None:
        self._process = process
        self._pruning: Pruning | None = None
        self._pruned = 0
        # Rows without their users or jobs are those of an app that was not installed, and is since a start.
        self._is_first = True

    def run(self) -> bool:
        if self._pruning is None:
            before = times.now() - settings.RETENTION
            self._pruning = Pruning(before, run=retrying_atomic, finds_orphans=self._is_first)
            self._is_first = False
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


sqlstates.list_apps = list_apps
