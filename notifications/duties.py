"""The duties of all parts of the core, and those of extensions: see ``upkeep.py``."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from uuid import UUID

from notifications import streams
from notifications.conf import settings
from notifications.db.clock import database_now
from notifications.db.transactions import MAX_ROWS_PER_TRANSACTION, fair_atomic, retrying_atomic
from notifications.extension import Duty, Subjects, Where, hooks
from notifications.jobs import announcing, calling_owed
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
from notifications.streams.marking_all import continue_marking, find_pending, pending_condition
from notifications.streams.retention import PruneStep, find_steps
from notifications.upkeep import Upkeep
from notifications.worker.lease import find_dead_neighbors

logger = logging.getLogger("notifications.jobs")

#: Seconds between two prunings, and from the start of a process to its first one.
PRUNE_INTERVAL_SECONDS, FIRST_PRUNE_DELAY_SECONDS = 3600.0, 60.0
#: Batches that one call of a duty ends.
MAX_BATCHES_AT_ONCE = 50
#: Seconds between two searches for waiting jobs that have nothing to wait for.
WAIT_CHECK_INTERVAL_SECONDS = 60.0


def list_duties(process: Upkeep) -> list[Duty]:
    """Return all duties. ``process`` does those of its kind."""
    pruning = _PruneDuty()
    prune = Duty("prune old rows", PRUNE_INTERVAL_SECONDS, pruning.run, subjects=Subjects(pruning.find))
    prune.due_at += FIRST_PRUNE_DELAY_SECONDS * random.uniform(1, 2)
    line_check = limit_openings.LineCheck()

    def run_chunks(run_chunk: Callable[[], object]) -> Callable[[], bool]:
        return lambda: process.run_chunks(run_chunk)

    remaining, reaping_duty = batch_completion.remaining_condition, _ReapingDuty(process)
    # They find nothing to do by one small read, or concern the process itself. Where several find the same, the rows
    # decide: they are locked, or change once.
    for_each_process = [
        Duty(
            "number pending changes",
            0,
            streams.number,
            Where.EVERYWHERE,
            condition=streams.pending_condition,
            subjects=Subjects(streams.find_pending_users, streams.MAX_STREAMS_LOCKED),
        ),
        Duty(
            "call hooks that are owed",
            0,
            lambda ids: calling_owed.make_call(*ids),
            Where.EVERYWHERE,
            condition=calling_owed.due_condition,
            subjects=Subjects(calling_owed.find_due),
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
        Duty(
            "take jobs from lost workers",
            0,
            reaping_duty.run,
            condition=reaping.lost_jobs_condition,
            subjects=Subjects(reaping_duty.find, reaping.MAX_JOBS_PER_TRANSACTION),
        ),
        Duty(
            "end waits that are due",
            0,
            waiting.end_due_waits,
            condition=waiting.due_condition,
            subjects=Subjects(waiting.find_due_waits, waiting.MAX_WAITS_PER_TRANSACTION),
        ),
        Duty(
            "end expired jobs",
            0,
            expiring.end_expired_jobs,
            Where.EVERYWHERE,
            condition=expiring.expired_condition,
            subjects=Subjects(expiring.find_expired_jobs, MAX_ROWS_PER_TRANSACTION),
        ),
        Duty(
            "raise snoozed notifications",
            0,
            snoozing.raise_due,
            Where.EVERYWHERE,
            condition=snoozing.due_condition,
            subjects=Subjects(snoozing.find_due, MAX_ROWS_PER_TRANSACTION),
        ),
        Duty(
            "resume cancellations of batches",
            0,
            manual.resume_cancellation,
            condition=remaining,
            subjects=Subjects(batch_completion.find_jobs_to_cancel, MAX_ROWS_PER_TRANSACTION),
        ),
        Duty(
            "finish batches",
            0,
            recording.end_batches,
            condition=remaining,
            subjects=Subjects(batch_completion.find_remaining_batches, MAX_BATCHES_AT_ONCE),
        ),
        Duty(
            "mark notifications as read",
            0,
            partial(continue_marking, run=fair_atomic if process.seconds else retrying_atomic),
            Where.EVERYWHERE,
            condition=pending_condition,
            subjects=Subjects(find_pending),
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
            "queue jobs that wait for nothing",
            WAIT_CHECK_INTERVAL_SECONDS,
            waiting.queue_jobs_without_wait,
            subjects=Subjects(waiting.find_jobs_without_wait, waiting.MAX_WAITS_PER_TRANSACTION),
        ),
        # At the start too, because an app may be installed again.
        Duty(
            "cancel waits of ended jobs",
            PRUNE_INTERVAL_SECONDS,
            waiting.cancel_left_waits,
            at_start=True,
            subjects=Subjects(waiting.find_left_jobs, waiting.MAX_WAITS_PER_TRANSACTION),
        ),
        *chain.from_iterable(hook(process) for hook in hooks.duties),
    ]


class _ReapingDuty:
    """Finds what is to be reaped now: whether this process may declare workers lost changes."""

    def __init__(self, process: Upkeep) -> None:
        self._process = process
        self._dead_workers: list[UUID] = []

    def find(self) -> Iterator[UUID]:
        self._dead_workers = find_dead_neighbors()
        yield from reaping.find_lost_jobs(self._dead_workers, expired=self._process.may_reap())
        while reaping.delete_lost_workers(self._dead_workers, expired=self._process.may_reap()):
            pass

    def run(self, ids: Sequence[UUID]) -> None:
        # Checked for each group: since the search began this process may have missed a renewal of its own lease.
        if reaping.reap(ids, self._dead_workers, expired=self._process.may_reap()):
            self._process.on_requeued()


class _PruneDuty:
    """One pruning after the other, each over several rounds."""

    def __init__(self) -> None:
        # Rows without their users or jobs are those of an app that was not installed, and is since a start.
        self._is_first = True

    def find(self) -> Iterator[PruneStep]:
        finds_orphans, self._is_first = self._is_first, False
        return find_steps(database_now() - settings.RETENTION, finds_orphans=finds_orphans)

    def run(self, steps: Sequence[PruneStep]) -> list[PruneStep]:
        counts = {step: step.run(retrying_atomic) for step in steps}
        if pruned := sum(counts.values()):
            logger.info("Pruned rows past their retention: %d", pruned)
        return [step for step in steps if counts[step]]
