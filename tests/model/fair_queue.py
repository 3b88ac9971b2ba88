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
    """Jobs without priority in some queues. ``by_age`` claims first in, first out.

    Of a key ``per_key`` jobs run at once, each but the first only if ``places`` are free for each one that runs.
    """

    def __init__(self, *, by_age=False, per_key=1, places=0, seed=1):
        self.jobs: list[QueuedJob] = []
        self.clocks: Counter[str] = Counter()
        self.by_age, self.per_key, self.places = by_age, per_key, places
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
            open_jobs = [job for job in self.jobs if job.key not in closed]
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
            self.clocks[job.queue] = max(self.clocks[job.queue], job.turn)


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
        for job in queue.claim(slots - len(running), running.values()):
            waits[job.share].append(now - job.since)
            starts.append((now, job.share))
            running[job.number] = job
            heapq.heappush(events, (now + job.seconds, 1, job.number, None))
    return waits, starts
