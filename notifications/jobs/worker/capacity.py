"""What a worker has free: slots, threads for sync tasks, and room for a suspect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from notifications.jobs.claiming.claimed_job import Claim
from notifications.jobs.claiming.lanes import ASYNC, LANES, SUSPECT, SYNC, Lanes, lane_at
from notifications.jobs.worker.execution import Execution
from notifications.models import Job

#: Jobs that may wait for others, for each slot that there is. With more of them only what they wait for is claimed.
WAITING_PER_SLOT = 4


class Capacity:
    """Counts what the running jobs of a worker have left, of so many ``slots`` and ``threads``.

    Jobs that wait for others in ``join()`` take nothing: parents must not starve their children.
    """

    def __init__(self, running: Mapping[Claim, Execution], *, slots: int, threads: int) -> None:
        self.slots = slots
        self._running = running
        self._threads = threads

    def free(self) -> dict[str, int]:
        """Return how many jobs of each lane may be claimed now; a lane of which none may is left out."""
        active = [run.job for run in list(self._running.values()) if not run.joined]
        slots = self.slots - len(active)
        threads = self._threads - sum(lane_at(job.task_path) == SYNC for job in active)
        suspects = 1 - sum(job.lane == SUSPECT for job in active)
        free = {ASYNC: slots, SYNC: min(slots, threads), SUSPECT: min(slots, suspects)}
        return {lane: most for lane, most in free.items() if most > 0}

    def has_many_waiting(self) -> bool:
        """Return whether so many jobs wait for others that only what they wait for should be claimed."""
        return sum(bool(run.joined) for run in list(self._running.values())) >= WAITING_PER_SLOT * self.slots


def exhausted(free: Lanes, jobs: Iterable[Job] = ()) -> set[str]:
    """Return the lanes of which these jobs leave nothing of what was free: more of their jobs may wait."""
    return set(LANES) - subtract(free, jobs).keys()


def subtract(free: Lanes, jobs: Iterable[Job]) -> dict[str, int]:
    """Return what is left of what was free when these jobs are claimed."""
    left = dict(free)
    for job in jobs:
        left[job.lane] -= 1
        if job.lane != ASYNC:
            left[ASYNC] -= 1
    slots = left.get(ASYNC, 0)
    return {lane: min(most, slots) for lane, most in left.items() if min(most, slots) > 0}


def lanes_freed_by(job: Job) -> set[str]:
    """Return the lanes of which another job may be claimed at the end of this one, where slots were left."""
    return {job.lane, lane_at(job.task_path)}
