"""How many jobs a worker may claim: free slots, threads for sync tasks, and room for a quarantined job.

The app's own senders have slots and threads beside those of the project's jobs: a server that does not answer holds up
other messages, and no job. A share of the project's would be none where it has one slot.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from notifications.jobs.claiming.executors import (
    ASYNC,
    EMAIL,
    QUARANTINED,
    SENDER,
    SENDER_EXECUTORS,
    SYNC,
    WORKER_EXECUTORS,
    Capacities,
    executor_at,
)
from notifications.jobs.transitions.running import Claim, claim_of
from notifications.models import Job
from notifications.worker.execution import Execution

#: Jobs per slot that may wait for other jobs. With more of them only jobs are claimed for which they wait.
MAX_WAITING_PER_SLOT = 4
#: Webhooks and push messages that are sent at once, and threads for e-mails, in each worker.
MAX_SENDERS, MAX_EMAIL_THREADS = 200, 4


class Executions(dict[Claim, Execution]):
    """What a worker runs, by claim: added and removed on the event loop, read from any thread.

    It counts the jobs of each executor as they come and go. A claim that walked all of them took longer than its
    transaction: 100,000 jobs that wait 60 s began within 185 s.
    """

    def __init__(self) -> None:
        super().__init__()
        self._executors: dict[Claim, list[str]] = {}
        self._number_of: dict[str, int] = dict.fromkeys(WORKER_EXECUTORS, 0)
        self._joining: set[Execution] = set()

    def add(self, execution: Execution) -> None:
        """Add what begins to run."""
        claim = claim_of(execution.job)
        self.remove(claim)
        self[claim] = execution
        self._executors[claim] = _executors_taken_by(execution.job)
        for executor in self._executors[claim]:
            self._number_of[executor] += 1

    def remove(self, claim: Claim) -> Execution | None:
        for executor in self._executors.pop(claim, ()):
            self._number_of[executor] -= 1
        return self.pop(claim, None)

    def count_slots(self) -> int:
        """Return how many jobs take a slot, from any thread."""
        return self._number_of[ASYNC]

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
        """Return how many tasks of each executor do not wait for other jobs, for ASYNC all that take a slot."""
        # First: an execution that ends meanwhile must not be subtracted twice.
        active = dict(self._number_of)
        for execution in self.joining():
            for executor in _executors_taken_by(execution.job):
                active[executor] -= 1
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
        """Return how many jobs of each executor may be claimed now, without the full executors."""
        active = self._executions.count_active()
        slots = self._slots - active[ASYNC]
        free = {
            ASYNC: slots,
            SYNC: min(slots, self._threads - active[SYNC]),
            QUARANTINED: min(slots, 1 - active[QUARANTINED]),
            SENDER: MAX_SENDERS - active[SENDER],
            EMAIL: MAX_EMAIL_THREADS - active[EMAIL],
        }
        return {executor: count for executor, count in free.items() if count > 0}

    def has_many_waiting(self) -> bool:
        """Return whether so many jobs wait for others that only jobs for which they wait should be claimed."""
        return len(self._executions.joining()) >= MAX_WAITING_PER_SLOT * self._slots


def exhausted_executors(free: Capacities, jobs: Iterable[Job]) -> set[str]:
    """Return the executors that are full when these jobs are claimed. More of their jobs may be queued."""
    return set(WORKER_EXECUTORS) - subtract(free, jobs).keys()


def subtract(free: Capacities, jobs: Iterable[Job]) -> dict[str, int]:
    """Return what is left of ``free`` when these jobs are claimed, without the full executors."""
    left = dict(free)
    for job in jobs:
        left[job.executor] -= 1
        if job.executor not in (ASYNC, *SENDER_EXECUTORS):
            left[ASYNC] -= 1
    slots = left.get(ASYNC, 0)
    left = {name: count if name in SENDER_EXECUTORS else min(count, slots) for name, count in left.items()}
    return {executor: count for executor, count in left.items() if count > 0}


def _executors_taken_by(job: Job) -> list[str]:
    """Return the executors in which a job takes a place; ASYNC stands for its slot."""
    executor = executor_at(job.task_path)
    executors = [ASYNC, SYNC] if executor == SYNC else [executor]
    return [*executors, QUARANTINED] if job.executor == QUARANTINED else executors


def executors_freed_by(job: Job) -> set[str]:
    """Return the executors in which the end of a job may make room, besides its slot."""
    return {job.executor, *_executors_taken_by(job)}
