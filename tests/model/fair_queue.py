"""The rule of fair shares in memory, as the oracle of what the database claims, and a simulation with time."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass


@dataclass(order=True)
class QueuedJob:
    level: int  # the negative priority
    turn: int
    number: int
    share: str
    queue: str = "default"
    key: str = ""
    since: float = 0.0
    seconds: float = 0.1


class FairQueue:
    """Jobs in some queues, and scheduled ones. ``by_age`` claims first in, first out.

    Of a key ``per_key`` jobs run at once, each but the first only if ``places`` are free for each one that runs.
    """

    def __init__(self, *, by_age=False, per_key=1, places=0, seed=1):
        self.jobs: list[QueuedJob] = []
        self.clocks: Counter[tuple[str, int]] = Counter()
        self.scheduled: list[dict] = []
        self.paused: set[str] = set()
        self.by_age, self.per_key, self.places = by_age, per_key, places
        self._number = 0
        self._random = random.Random(seed)

    def enqueue(self, share, count=1, *, queue="default", priority=0, clock=None, number=0, **values):
        """Queue jobs of one share, which see ``clock`` (of a transaction that began long ago) or the present one."""
        key = share, queue, -priority
        queued = [job.turn for job in self.jobs if (job.share, job.queue, job.level) == key]
        last = max([self.clocks[queue, -priority] if clock is None else clock, *queued])
        for place in range(1, count + 1):
            turn = 0 if self.by_age else last + place
            self.jobs.append(
                QueuedJob(-priority, turn, number or self._next_number(), share, queue, **values)
            )

    def schedule(self, share, **values):
        """Have a new job wait for its time."""
        self.scheduled.append({"share": share, "number": self._next_number(), **values})

    def retry(self, jobs, *, is_later):
        """Queue jobs again whose attempts failed, as new ones, or have them wait for their time."""
        for job in sorted(jobs, key=lambda job: job.number):
            values = {"queue": job.queue, "priority": -job.level, "key": job.key, "number": job.number}
            if is_later:
                self.scheduled.append({"share": job.share, **values})
            else:
                self.enqueue(job.share, **values)

    def queue_due(self):
        """Have the scheduled jobs join the queue, as new ones."""
        for values in sorted(self.scheduled, key=lambda values: values["number"]):
            self.enqueue(**values)
        self.scheduled.clear()

    def _next_number(self):
        self._number += 1
        return self._number

    def requeue(self, jobs):
        """Queue jobs again that were claimed, as at a shutdown: with the turns that they had."""
        self.jobs += jobs

    def claim(self, count, running=()):
        """Take the first jobs of which not too many of their key run, in rounds over the queues, as one claim does."""
        taken: list[QueuedJob] = []
        while len(taken) < count:
            of_keys = Counter(job.key for job in (*running, *taken) if job.key)
            free = count - len(taken)
            closed = {
                key
                for key, number in of_keys.items()
                if number >= self.per_key or free <= number * self.places
            }
            open_jobs = [job for job in self.jobs if job.key not in closed and job.queue not in self.paused]
            if not open_jobs:
                break
            places = Counter((job.queue, job.level) for job in taken)
            level = min(job.level for job in open_jobs)
            names = sorted(
                {job.queue for job in open_jobs if job.level == level},
                key=lambda name: (places[name, level], self._random.random()),
            )
            first = min(job for job in open_jobs if job.queue == names[0])
            self.jobs.remove(first)
            taken.append(first)
        if len(taken) == count:  # jobs are left, or may be
            self._move_clocks(taken)
        return taken

    def take(self, jobs, *, is_full):
        """Take these jobs, as ``claim()`` does. With ``is_full`` others are left, or may be."""
        for job in jobs:
            self.jobs.remove(job)
        if is_full:
            self._move_clocks(jobs)

    def _move_clocks(self, jobs):
        for job in jobs:
            self.clocks[job.queue, job.level] = max(self.clocks[job.queue, job.level], job.turn)
