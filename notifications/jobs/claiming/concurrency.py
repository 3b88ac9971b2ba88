"""How many jobs may run at once: of one queue, and of one concurrency key.

Claimers of several processes see each other's claims only after the commit. So whoever counts the running jobs of a key
or a queue holds its advisory lock until its own commit on PostgreSQL, and the lock of the whole database on SQLite; the
count is a later statement than the lock, because its snapshot must be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import blake2b

from django.db.models import Q

from notifications.db.transactions import connection, database
from notifications.jobs.results import policy_at
from notifications.models import Job

#: Looks of one claim for jobs in place of those that may not run now.
MAX_PASSES = 10

#: What has a limit: ("key", its text), ("queue", its name), or within one claim ("lane", its name).
Name = tuple[str, str]


class RunningLimits:
    """What may be claimed now, inside the transaction of one claim.

    ``limits`` are those of queues, ``lanes`` how many jobs of each lane may be claimed.
    """

    def __init__(self, limits: dict[str, int], lanes: Mapping[str, int]) -> None:
        self.limits = limits
        #: Names of which no more may be claimed now: full, or just being claimed by somebody else.
        self.closed: set[Name] = set()
        #: As many jobs as may run of one of the keys that were met.
        self.most = 1
        self._left: dict[Name, int] = {("lane", lane): most for lane, most in lanes.items()}
        self._looked = False

    def meet(self, jobs: list[Job]) -> None:
        """Count, each behind its lock, what runs of the names of these jobs that were not met before."""
        self._lock(
            sorted({name for job in jobs for name in self._names(job)} - self._left.keys() - self.closed)
        )
        self._count(jobs)

    def keys(self) -> list[str]:
        """Return the keys of which no more may be claimed now."""
        return [name for kind, name in self.closed if kind == "key"]

    def first(self, jobs: list[Job], limit: int) -> list[Job]:
        """Return the first of these jobs, all of which were met, that may run, at most ``limit``."""
        taken: list[Job] = []
        for job in jobs:
            if len(taken) == limit:
                break
            if self._takes(job):
                taken.append(job)
        return taken

    def _takes(self, job: Job) -> bool:
        names = [*self._names(job), ("lane", job.lane)]
        if any(name in self.closed for name in names):
            return False
        for name in names:
            self._left[name] -= 1
            if self._left[name] <= 0:
                self.closed.add(name)
        return True

    def _names(self, job: Job) -> list[Name]:
        names = [("key", job.concurrency_key)] if job.concurrency_key else []
        return [*names, ("queue", job.queue_name)] if job.queue_name in self.limits else names

    def _capacity(self, name: Name, task_path: str) -> int:
        return self.limits[name[1]] if name[0] == "queue" else policy_at(task_path).concurrency

    def _lock(self, names: list[Name]) -> None:
        db = connection()
        if db.vendor != "postgresql" or not names:
            return
        with db.cursor() as cursor:
            marks = ", ".join(["pg_try_advisory_xact_lock(%s)"] * len(names))
            cursor.execute(f"SELECT {marks}", [_number(name) for name in names])
            self.closed.update(name for name, got in zip(names, cursor.fetchone(), strict=True) if not got)

    def _count(self, jobs: list[Job]) -> None:
        """Count what runs, of all names at the first look: those that are full are then left out of the next one."""
        new = {name: job.task_path for job in jobs for name in self._names(job)}
        new = {name: path for name, path in new.items() if name not in self._left and name not in self.closed}
        if not new and self._looked:
            return
        counted, paths = self._running()
        if not self._looked:
            self._looked = True
            full = (name for name, count in counted.items() if count >= self._capacity(name, paths[name]))
            self.closed.update(full)
        for name, path in new.items():
            capacity = self._capacity(name, path)
            if name[0] == "key":
                self.most = max(self.most, capacity)
            self._left[name] = capacity - counted[name]
            if self._left[name] <= 0:
                self.closed.add(name)

    def _running(self) -> tuple[Counter[Name], dict[Name, str]]:
        limited = ~Q(concurrency_key="") | Q(queue_name__in=list(self.limits))
        # Without the batches: they run without a worker.
        rows = Job.objects.using(database()).filter(worker__isnull=False)
        running = rows.filter(limited, state=Job.State.RUNNING)
        counted: Counter[Name] = Counter()
        paths: dict[Name, str] = {}
        # In the order of the index of running jobs: SQLite would walk the whole table for any other.
        columns = ("concurrency_key", "queue_name", "task_path")
        for key, queue, path in running.order_by("worker", "id").values_list(*columns):
            for name in self._names(Job(concurrency_key=key, queue_name=queue)):
                counted[name] += 1
                paths[name] = path
        return counted, paths


def full(limits: dict[str, int]) -> set[str]:
    """Return the queues of which no more may run, as it looks without a lock."""
    rows = Job.objects.using(database()).filter(worker__isnull=False, state=Job.State.RUNNING)
    names = (
        rows.filter(queue_name__in=list(limits)).order_by("worker", "id").values_list("queue_name", flat=True)
    )
    return {name for name, count in Counter(names).items() if count >= limits[name]}


def within(
    find: Callable[[RunningLimits], list[Job]], jobs: list[Job], room: RunningLimits, limit: int
) -> tuple[list[Job], bool]:
    """Return the jobs that may run now, at most ``limit``, and whether there may be more.

    ``jobs`` are the first that are due, ``find(room)`` returns the first ``limit`` of which more may be claimed.
    """
    taken: list[Job] = []
    for _ in range(MAX_PASSES):
        closed, most = len(room.closed), room.most
        room.meet(jobs)
        # Of each key too few were found, if one of them has more room than those before: they are looked for first.
        if not closed or room.most == most:
            taken += room.first(jobs, limit - len(taken))
            if len(taken) >= limit or len(room.closed) == closed:
                return taken, False
        ids = {job.id for job in taken}
        jobs = [job for job in find(room) if job.id not in ids]
        if not jobs:
            return taken, False
    return taken, True


def _number(name: Name) -> int:
    """The number of a name's advisory lock: any 64 bits that others hardly use."""
    text = f"notifications {name[0]} {name[1]}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), signed=True)
