"""Upkeep: what servers whose jobs an engine runs, and workers that observe Celery, do for all jobs and streams.

There may be no other process that lasts: RQ has a process for each job, and under WSGI servers do nothing between
requests. The built-in worker does the same on its event loop (``jobs/worker/maintenance.py``).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from notifications import streams, times
from notifications.conf import settings
from notifications.db.transactions import database, retrying_atomic
from notifications.db.unavailable import is_unavailable, log_if_not_migrated
from notifications.jobs import stored_times
from notifications.jobs.alerts import evaluation
from notifications.jobs.announcing import announcer
from notifications.jobs.project_threads import ProjectThreads
from notifications.jobs.statistics import folding
from notifications.jobs.transitions import finishing, manual, reaping
from notifications.jobs.transitions.guards import database_now
from notifications.jobs.worker import maintenance
from notifications.jobs.worker.lease import find_dead_neighbors
from notifications.models import Worker
from notifications.streams.marking import continue_marking
from notifications.streams.retention import Pruning

logger = logging.getLogger("notifications.jobs")


@dataclass(slots=True)
class Duty:
    """Something to do every ``interval`` seconds, and in the next round if ``run`` returns True: it has more to do."""

    name: str
    interval: float
    run: Callable[[], object]
    due_at: float = 0.0


class Upkeep:
    """The duties of one process.

    ``seconds``
        How long a duty with much to do may take in one round.
    ``may_reap``
        Returns whether this process may declare workers lost whose leases are over.
    ``is_chosen``
        Returns whether this process folds statistics and prunes, which one process should do. Several do no harm.
    """

    def __init__(
        self, *, seconds: float, may_reap: Callable[[], bool], is_chosen: Callable[[], bool]
    ) -> None:
        self.project_threads = ProjectThreads()
        self._seconds = seconds
        self._may_reap = may_reap
        self._is_chosen = is_chosen
        self._announcer = announcer.Announcer()
        self._pruning: Pruning | None = None
        first_prune = time.monotonic() + maintenance.FIRST_PRUNE_DELAY_SECONDS * random.uniform(1, 2)
        self._duties = (
            Duty("number pending changes", 0, streams.number_pending),
            Duty("correct stored times", 0, stored_times.correct_wrong_times),
            Duty("take jobs from lost workers", 0, self._reap),
            Duty("resume cancellations of batches", 0, manual.resume_batch_cancellations),
            Duty("finish batches", 0, finishing.finish_remaining_batches),
            Duty("mark notifications as read", 0, self._mark),
            Duty("evaluate alerts", evaluation.CHECK_INTERVAL_SECONDS, evaluation.evaluate_if_due),
            Duty("announce alerts and schedules", announcer.ROUND_INTERVAL_SECONDS, self._announce),
            Duty("fold statistics", maintenance.FOLD_INTERVAL_SECONDS, self._fold),
            Duty("prune old rows", maintenance.PRUNE_INTERVAL_SECONDS, self._prune, first_prune),
        )

    def run_round(self) -> None:
        """Do what is due. An error of one duty is logged, also one that the database refuses for good.

        Where migrations are not applied the round ends. Raises an error that means that the database is unavailable:
        see ``is_unavailable()``.
        """
        for duty in self._duties:
            started = time.monotonic()
            if started < duty.due_at:
                continue
            duty.due_at = started + duty.interval
            try:
                has_more = duty.run() is True
            except Exception as exc:
                if log_if_not_migrated(exc):
                    return  # the others would find so too
                if is_unavailable(exc):
                    raise
                logger.exception("Could not %s, which is tried again", duty.name)
                continue
            if has_more:
                duty.due_at = started

    def _reap(self) -> None:
        reaping.reap_jobs(find_dead_neighbors(), expired=self._may_reap())

    def _mark(self) -> None:
        continue_marking(self._seconds)

    def _announce(self) -> None:
        self.project_threads.start(self._announcer.run_round, "Could not announce alerts and schedules")

    def _fold(self) -> bool:
        return self._is_chosen() and self._run_chunks(lambda: folding.fold_chunk() or folding.delete_chunk())

    def _prune(self) -> bool:
        if not self._is_chosen():
            return False
        # Kept over the rounds of one pruning, because it knows what it has looked at.
        self._pruning = self._pruning or Pruning(times.now() - settings.RETENTION, run=retrying_atomic)
        prune_chunk = self._pruning.prune_chunk
        has_more = self._run_chunks(lambda: prune_chunk() is not None)
        if not has_more:
            self._pruning = None
        return has_more

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
