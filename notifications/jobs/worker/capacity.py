"""How many jobs a worker may claim: free slots, threads for sync tasks, and room for a suspect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from notifications.jobs.claiming.claimed_job import Claim
from notifications.jobs.claiming.lanes import ASYNC, LANES, SUSPECT, SYNC, Lanes, lane_at
from notifications.jobs.worker.execution import Execution
from notifications.models import Job

#: Jobs per slot that may wait for other jobs. With more of them only jobs are claimed for which they wait.
MAX_WAITING_PER_SLOT = 4


class Capacity:
    """What the executions of a worker leave of its ``slots``, and of its ``threads`` for sync tasks.

    A job that waits for another one in ``join()`` takes neither, or parents would keep their children from running.
    """

    def __init__(self, executions: Mapping[Claim, Execution], *, slots: int, threads: int) -> None:
        self._executions = executions
        self._slots = slots
        self._threads = threads

    def free(self) -> dict[str, int]:
        """Return how many jobs of each lane may be claimed now, without the full lanes."""
        executions = list(self._executions.values())
        active = [execution.job for execution in executions if not execution.joined_jobs]
        slots = self._slots - len(active)
        threads = self._threads - sum(lane_at(job.task_path) == SYNC for job in active)
        suspects = 1 - sum(job.lane == SUSPECT for job in active)
        free = {ASYNC: slots, SYNC: min(slots, threads), SUSPECT: min(slots, suspects)}
        return {lane: count for lane, count in free.items() if count > 0}

    def has_many_waiting(self) -> bool:
        """Return whether so many jobs wait for others that only jobs for which they wait should be claimed."""
        waiting = sum(bool(execution.joined_jobs) for execution in list(self._executions.values()))
        return waiting >= MAX_WAITING_PER_SLOT * self._slots


def exhausted_lanes(free: Lanes, jobs: Iterable[Job]) -> set[str]:
    """Return the lanes that are full when these jobs are claimed. More of their jobs may be queued."""
    return set(LANES) - subtract(free, jobs).keys()


def subtract(free: Lanes, jobs: Iterable[Job]) -> dict[str, int]:
    """Return what is left of ``free`` when these jobs are claimed, without the full lanes."""
    left = dict(free)
    for job in jobs:
        left[job.lane] -= 1
        if job.lane != ASYNC:
            left[ASYNC] -= 1
    slots = left.get(ASYNC, 0)
    return {lane: min(count, slots) for lane, count in left.items() if min(count, slots) > 0}


def lanes_freed_by(job: Job) -> set[str]:
    """Return the lanes in which the end of a job may make room, besides its slot."""
    return {job.lane, lane_at(job.task_path)}
