"""The rule of fair shares in memory, as the oracle of what the database claims, and a simulation with time."""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict
from dataclasses import dataclass


@dataclass(order=True)
class QueuedJob:
    turn: int
    number: int
    share: str
    queue: str = "default"
    key: str = ""
    since: float = 0.0
    seconds: float = 0.1


class FairQueue:
    """Jobs without priority in some queues. ``by_age`` claims first in, first out."""

    def __init__(self, *, by_age=False, seed=1):
        self.jobs: list[QueuedJob] = []
        self.clocks: Counter[str] = Counter()
        self.by_age = by_age
        self._number = 0
        self._random = random.Random(seed)

    def enqueue(self, share, count=1, *, queue="default", clock=None, **values):
        """Queue jobs of one share, which see ``clock`` (of a transaction that began long ago) or the present one."""
        queued = [job.turn for job in self.jobs if (job.share, job.queue) == (share, queue)]
        last = max([self.clocks[queue] if clock is None else clock, *queued])
        for place in range(1, count + 1):
            self._number += 1
            turn = 0 if self.by_age else last + place
            self.jobs.append(QueuedJob(turn, self._number, share, queue, **values))

    def claim(self, count, closed=()):
        """Take the first jobs whose keys are not closed, in rounds over the queues, as one claim does."""
        taken: list[QueuedJob] = []
        while len(taken) < count:
            keys = {*closed, *(job.key for job in taken)} - {""}
            open_jobs = [job for job in self.jobs if job.key not in keys]
            if not open_jobs:
                break
            places = Counter(job.queue for job in taken)
            names = sorted(
                {job.queue for job in open_jobs}, key=lambda name: (places[name], self._random.random())
            )
            first = min(job for job in open_jobs if job.queue == names[0])
            self.jobs.remove(first)
            taken.append(first)
        if len(taken) == count:  # jobs are left, or may be
            for job in taken:
                self.clocks[job.queue] = max(self.clocks[job.queue], job.turn)
        return taken


def simulate(script, *, slots, until, **options):
    """Run ``(seconds, function of the queue)`` with so many slots. Return the waits and starts of each share."""
    queue = FairQueue(**options)
    events = [(moment, 0, number, act) for number, (moment, act) in enumerate(script)]
    heapq.heapify(events)
    running: dict[int, QueuedJob] = {}
    waits, starts = defaultdict(list), []
    while events and events[0][0] <= until:
        now, kind, number, act = heapq.heappop(events)
        if kind == 0:
            before = len(queue.jobs)
            act(queue)
            for job in queue.jobs[before:]:
                job.since = now
        else:
            del running[number]
        for job in queue.claim(slots - len(running), [job.key for job in running.values()]):
            waits[job.share].append(now - job.since)
            starts.append((now, job.share))
            running[job.number] = job
            heapq.heappush(events, (now + job.seconds, 1, job.number, None))
    return waits, starts
