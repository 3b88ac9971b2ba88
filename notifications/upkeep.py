"""Upkeep: what must be done every so often for all jobs and streams, whatever processes there are.

The built-in worker does it from its event loop (``worker/maintenance.py``). Servers whose jobs an engine runs, and
workers that observe Celery, do it on a thread, because there may be no other process that lasts: RQ has a process for
each job, and under WSGI servers do nothing between requests.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from notifications import streams, times
from notifications.conf import settings
from notifications.db.transactions import database, fair_atomic, retrying_atomic
from notifications.db.unavailable import is_not_migrated, is_unavailable, log_if_not_migrated
from notifications.jobs.project_threads import ProjectThreads
from notifications.jobs.transitions import finishing, manual, reaping
from notifications.jobs.transitions.guards import database_now
from notifications.jobs.worker.lease import Lease, find_dead_neighbors
from notifications.models import Worker
from notifications.operations import stored_times
from notifications.operations.alerts import evaluation
from notifications.operations.announcing import announcer
from notifications.statistics import folding
from notifications.streams.marking import continue_marking
from notifications.streams.retention import Pruning

logger = logging.getLogger("notifications.jobs")


#: Seconds between two prunings, and from the start of a process to its first one.
PRUNE_INTERVAL_SECONDS, FIRST_PRUNE_DELAY_SECONDS = 3600.0, 60.0
#: Seconds between two foldings of statistics.
FOLD_INTERVAL_SECONDS = 15.0
#: Seconds for which a call of ``run_first()`` goes on to the next duty: an outcome waits no longer than that for them.
FURTHER_SECONDS = 0.005


@dataclass(slots=True)
class Duty:
    """Something to do every ``interval`` seconds, and in the next round if ``run`` returns True: it has more to do."""

    name: str
    interval: float
    run: Callable[[], object]
    #: When it is due next (monotonic).
    due_at: float = 0.0


class Upkeep:
    """The duties of one process.

    ``seconds``
        How long a duty with much to do may take in one round; with 0 it does one chunk.
    ``may_reap``
        Returns whether this process may declare workers lost whose leases are over.
    ``is_chosen``
        Returns whether this process folds statistics and prunes, which one process should do. Several do no harm.
    ``on_requeued``
        Called when jobs of lost workers were queued again.
    ``more``
        Duties of this process only.
    """

    def __init__(
        self,
        *,
        seconds: float,
        may_reap: Callable[[], bool],
        is_chosen: Callable[[], bool],
        on_requeued: Callable[[], object] = lambda: None,
        more: Iterable[Duty] = (),
    ) -> None:
        self.project_threads = ProjectThreads()
        self._seconds = seconds
        self._may_reap = may_reap
        self._is_chosen = is_chosen
        self._on_requeued = on_requeued
        self._announcer = announcer.Announcer()
        self._pruning: Pruning | None = None
        self._pruned = 0
        now = time.monotonic()
        first_prune = now + FIRST_PRUNE_DELAY_SECONDS * random.uniform(1, 2)
        alerts, announce, fold = (
            evaluation.CHECK_INTERVAL_SECONDS,
            announcer.ROUND_INTERVAL_SECONDS,
            FOLD_INTERVAL_SECONDS,
        )
        self._duties: tuple[Duty, ...] = (
            Duty("number pending changes", 0, streams.number_pending),
            Duty("correct stored times", 0, stored_times.correct_wrong_times),
            Duty("take jobs from lost workers", 0, self._reap),
            Duty("resume cancellations of batches", 0, manual.resume_batch_cancellations),
            Duty("finish batches", 0, finishing.finish_remaining_batches),
            Duty("mark notifications as read", 0, self._mark),
            Duty("evaluate alerts", alerts, self._evaluate_alerts, now + alerts),
            Duty("announce alerts and schedules", announce, self._announce, now + announce),
            Duty("fold statistics", fold, self._fold, now + fold),
            Duty("prune old rows", PRUNE_INTERVAL_SECONDS, self._prune, first_prune),
            *more,
        )

    def run_round(self) -> None:
        """Do what is due. Where migrations are not applied the round ends.

        Raises an error that means that the database is unavailable: see ``is_unavailable()``.
        """
        for duty in self.find_due():
            try:
                self.run(duty)
            except Exception as exc:
                if not log_if_not_migrated(exc):
                    raise
                return  # the others would find so too

    def find_due(self) -> list[Duty]:
        """Return the duties that are due, those first that have waited longest: a round may end before its last one."""
        now = time.monotonic()
        return sorted((duty for duty in self._duties if duty.due_at <= now), key=lambda duty: duty.due_at)

    def run_first(self, duties: list[Duty]) -> list[Duty]:
        """Do the first of these duties, and further ones within ``FURTHER_SECONDS``; remove them from the list.

        Returns those that have more to do. Most find nothing: a call of the writer for each took longer than they do.
        Raises like ``run()``.
        """
        unfinished = []
        stop_at = time.monotonic() + FURTHER_SECONDS
        while duties:
            duty = duties.pop(0)
            if self.run(duty):
                unfinished.append(duty)
            if time.monotonic() > stop_at:
                break
        return unfinished

    def run(self, duty: Duty) -> bool:
        """Do a duty, and return whether it has more to do. Its error is logged, also one that is there for good.

        Raises an error that means that the database is unavailable, or not migrated.
        """
        started = time.monotonic()
        duty.due_at = started + duty.interval
        try:
            has_more = duty.run() is True
        except Exception as exc:
            if is_unavailable(exc) or is_not_migrated(exc):
                duty.due_at = time.monotonic()
                raise
            logger.exception("Could not %s, which is tried again", duty.name)
            return False
        if has_more:
            duty.due_at = started
        return has_more

    def _reap(self) -> None:
        if reaping.reap_jobs(find_dead_neighbors(), expired=self._may_reap()):
            self._on_requeued()

    def _mark(self) -> bool:
        # With one chunk a round, other work comes in between.
        return continue_marking(self._seconds, fair_atomic if self._seconds else retrying_atomic)

    def _evaluate_alerts(self) -> None:
        evaluation.evaluate_if_due()  # what it returns does not mean that it has more to do

    def _announce(self) -> None:
        self.project_threads.start(self._announcer.run_round, "Could not announce alerts and schedules")

    def _fold(self) -> bool:
        return self._is_chosen() and self._run_chunks(lambda: folding.fold_chunk() or folding.delete_chunk())

    def _prune(self) -> bool:
        if not self._is_chosen():
            return False
        # Kept over the rounds of one pruning, because it knows what it has looked at.
        self._pruning = self._pruning or Pruning(times.now() - settings.RETENTION, run=retrying_atomic)
        has_more = self._run_chunks(self._prune_chunk)
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

    def _run_chunks(self, run_chunk: Callable[[], object]) -> bool:
        """Run chunks for ``seconds``. Return whether there may be more."""
        stop_at = time.monotonic() + self._seconds
        while run_chunk():
            if time.monotonic() >= stop_at:
                return True
        return False


def has_no_lasting_worker() -> bool:
    """Return whether no worker lives that folds and prunes: a built-in one, or one that observes Celery.

    Processes of engines may end before their turn comes.
    """
    live = Worker.objects.using(database()).filter(lease_until__gte=database_now())
    return not live.exclude(queues__startswith="engine:").exists()


def is_oldest_worker(lease: Lease) -> bool:
    """Return whether a worker is the oldest live one, which does what only one worker should do."""
    live = Worker.objects.using(database()).filter(lease_until__gte=database_now()).order_by("id")
    return live.values_list("id", flat=True).first() == lease.worker
