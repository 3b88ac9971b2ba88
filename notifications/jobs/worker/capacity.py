"""How many jobs a worker may claim: free slots, threads for sync tasks, and room for a quarantined job."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from notifications.jobs.claiming.claimed_job import Claim, claim_of
from notifications.jobs.claiming.lanes import (
    ASYNC,
    LANES,
    QUARANTINE_LANES,
    QUARANTINED,
    SYNC,
    Lanes,
    lane_at,
)
from notifications.jobs.worker.execution import Execution
from notifications.models import Job

#: Jobs per slot that may wait for other jobs. With more of them only jobs are claimed for which they wait.
MAX_WAITING_PER_SLOT = 4


class Executions(dict[Claim, Execution]):
    """What a worker runs, by claim: added and removed on the event loop, read from any thread.

    It counts the jobs of each lane as they come and go. A claim that walked all of them took longer than its
    transaction: 100,000 jobs that wait 60 s began within 185 s.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lanes: dict[Claim, list[str]] = {}
        self._number_of: dict[str, int] = dict.fromkeys(LANES, 0)
        self._joining: set[Execution] = set()

    def add(self, execution: Execution) -> None:
        """Add what begins to run."""
        claim = claim_of(execution.job)
        self.remove(claim)
        self[claim] = execution
        self._lanes[claim] = _lanes_taken_by(execution.job)
        for lane in self._lanes[claim]:
            self._number_of[lane] += 1

    def remove(self, claim: Claim) -> Execution | None:
        """Remove and return the execution of a claim."""
        for lane in self._lanes.pop(claim, ()):
            self._number_of[lane] -= 1
        return self.pop(claim, None)

    def add_joining(self, execution: Execution) -> None:
        """Take note that the task of an execution begins to wait for another job; from any thread."""
        self._joining.add(execution)

    def joining(self) -> list[Execution]:
        """Return the executions whose tasks wait for other jobs now."""
        found = []
        for execution in list(self._joining):
            if execution.joined_jobs and self.get(claim_of(execution.job)) is execution:
                found.append(execution)
                continue
            self._joining.discard(execution)
            if (
                execution.joined_jobs and not execution.is_over
            ):  # it has begun to wait for another one meanwhile
                self._joining.add(execution)
        return found

    def joined_jobs(self) -> set[UUID]:
        """Return the ids of the jobs for which tasks wait."""
        return {id for execution in self.joining() for id in list(execution.joined_jobs.values())}

    def count_active(self) -> dict[str, int]:
        """Return how many tasks of each lane do not wait for other jobs; in the lane ASYNC those of all lanes."""
        # First: an execution that ends meanwhile must not be subtracted twice.
        active = {**self._number_of, ASYNC: len(self)}
        for execution in self.joining():
            active[ASYNC] -= 1
            for lane in _lanes_taken_by(execution.job):
                active[lane] -= 1
        return active


class Capacity:
    """What the executions of a worker leave of its ``slots``, and of its ``threads`` for sync tasks.

    A job that waits for another one in ``join()`` takes neither, or parents would keep their children from running.
    """

    def __init__(self, executions: Executions, *, slots: int, threads: int) -> None:
        self._executions = executions
        self._slots = slots
        self._threads = threads

    def free(self) -> dict[str, int]:
        """Return how many jobs of each lane may be claimed now, without the full lanes."""
        active = self._executions.count_active()
        slots = self._slots - active[ASYNC]
        free = {
            ASYNC: slots,
            SYNC: min(slots, self._threads - active[SYNC]),
            QUARANTINED: min(slots, 1 - active[QUARANTINED]),
        }
        return {lane: count for lane, count in free.items() if count > 0}

    def has_many_waiting(self) -> bool:
        """Return whether so many jobs wait for others that only jobs for which they wait should be claimed."""
        return len(self._executions.joining()) >= MAX_WAITING_PER_SLOT * self._slots


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


def _lanes_taken_by(job: Job) -> list[str]:
    """Return the lanes in which a job takes a place, besides its slot."""
    lanes = [SYNC] if lane_at(job.task_path) == SYNC else []
    return [*lanes, QUARANTINED] if job.lane in QUARANTINE_LANES else lanes


def lanes_freed_by(job: Job) -> set[str]:
    """Return the lanes in which the end of a job may make room, besides its slot."""
    return {job.lane, lane_at(job.task_path)}
