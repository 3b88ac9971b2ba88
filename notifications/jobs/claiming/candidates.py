"""Find the jobs that may be claimed now: queued, not scheduled, in a queue that is not paused, within all limits.

The limits are those of jobs that run at once, of a queue and of a concurrency key. Claims of several processes do not
see one another before their commits. So a claim counts the running jobs of a key or queue only while it holds the
advisory lock of its name, on PostgreSQL, or the lock of the whole database, on SQLite, both until its commit. The count
is a later statement than the lock: the snapshot of one statement for both would be older than the lock.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db.models import Q

from notifications import streams
from notifications.db import bulk
from notifications.db.bulk import lock_query, try_lock_names
from notifications.db.transactions import connection, database
from notifications.jobs.claiming import claim_queries, sources
from notifications.jobs.claiming.executors import EMAIL, SENDER, WORKER_EXECUTORS, Capacities
from notifications.jobs.claiming.queues import paused_queues, queue_limits
from notifications.jobs.claiming.sources import BackendQueue, Source, builtin_source
from notifications.jobs.results import policy_at
from notifications.models import Job

#: Seconds for which a job must have been due to be one that no process takes.
MIN_WAIT_SECONDS = 10.0
#: Seconds between two times that a process with a backlog reads whether jobs of several queues wait.
QUEUES_INTERVAL_SECONDS = 1.0
#: How often one claim looks for further jobs, in place of those that a limit excludes.
MAX_PASSES = 10
#: How many places must be free for each running job of a key, so that another one of it may begin. Turns say who is
#: next when a place is free: without free places others would wait until slow receivers, which answer at the same time,
#: have done so. Of 200 places for ``SENDER`` fifty slow keys take 164 (``tests/model/test_fair_shares.py``).
PLACES_PER_RUNNING_JOB = {SENDER: 12, EMAIL: 1}

#: What has a limit: ("key", concurrency key), ("queue", name), or within one claim ("executor", name).
LimitName = tuple[str, str]


class DueQueue(NamedTuple):
    """A queue of a backend in which a job of an executor may start.

    ``has_key``: whether the first of these jobs has a concurrency key or the key of another limit.
    """

    backend: str
    name: str
    executor: str
    has_key: bool


def claimable_queues(
    source: Source | None = None, executors: Collection[str] = WORKER_EXECUTORS
) -> list[DueQueue]:
    """Return the queues with jobs that may start, of the built-in worker by default. It takes no lock."""
    found = due_queues(source, executors)
    names = {queue.name for queue in found}
    limits = {name: limit for name, limit in queue_limits().items() if name in names}
    full = full_queues(limits) if limits else set()
    return [queue for queue in found if queue.name not in full]


def due_queues(source: Source | None = None, executors: Collection[str] = WORKER_EXECUTORS) -> list[DueQueue]:
    """Return the same as ``claimable_queues``, and queues that have reached their limit."""
    with connection().cursor() as cursor:
        cursor.execute(*claim_queries.due_queues(source or builtin_source(), executors))
        return [
            DueQueue(backend, name, executor, bool(key))
            for backend, name, executor, key in cursor
            if key is not None
        ]


class QueueWatch:
    """Whether jobs of several queues wait: the fastest claim of PostgreSQL, of all queues, is not fair among them."""

    def __init__(self) -> None:
        self._read_at = self._several_until = -math.inf

    def has_several(self) -> bool:
        return time.monotonic() < self._several_until

    def refresh(self, executors: Collection[str]) -> None:
        """Read which queues have jobs of these executors, at most each ``QUEUES_INTERVAL_SECONDS``."""
        now = time.monotonic()
        if claim_queries.can_lock_first_jobs() and now - self._read_at >= QUEUES_INTERVAL_SECONDS:
            self._read_at = now
            if len({(queue.backend, queue.name) for queue in due_queues(Source(), executors)}) > 1:
                self._several_until = now + 2 * QUEUES_INTERVAL_SECONDS


queue_watch = QueueWatch()


def lock_jobs(
    now: datetime,
    limit: int,
    queues: Collection[BackendQueue],
    among: Q,
    executors: Capacities,
    limits: RunningLimits,
) -> list[Job]:
    """Lock, in a transaction, the jobs that may be claimed, at most ``limit``, and return them by priority and turn.

    ``executors`` has how many jobs of each executor may be claimed, none of one that is left out. ``among`` is a
    condition that the jobs must meet. ``limits`` is new, and knows afterwards which jobs another claim kept from being
    taken.
    """
    #: That it has met.
    expired: list[Job] = []

    def find(limits: RunningLimits) -> list[Job]:
        open_queues = [queue for queue in queues if ("queue", queue[1]) not in limits.closed]
        open_executors = {
            executor: most
            for executor, most in executors.items()
            if ("executor", executor) not in limits.closed
        }
        if among:
            return _lock_among(among, now, limit, open_queues, open_executors, limits)
        if not open_queues or not open_executors:
            return []
        columns = ", ".join(field.column for field in Job._meta.concrete_fields)

        def read(*, with_expired: bool) -> list[Job]:
            query = claim_queries.first_jobs_of_queues(
                columns,
                limit,
                sources.values_of_names(open_queues),
                open_executors,
                limits.closed_keys(),
                limits.max_jobs_per_key,
                with_expired=with_expired,
            )
            with connection().cursor() as cursor:
                cursor.execute(*query)
                return first_jobs(bulk.instances(Job, cursor.fetchall()), limit)

        if not expired:
            # Without a condition that would have the rows of jobs read that are not among the first.
            jobs = read(with_expired=True)
            expired.extend(job for job in jobs if job.expires_at is not None and job.expires_at <= now)
            if not expired:
                return jobs
        return read(with_expired=False)

    jobs = find(limits)
    if not has_limited_jobs(jobs):
        return jobs
    jobs, may_have_more = select_within_limits(find, jobs, limits, limit)
    if may_have_more:
        streams.ring((), queue=True)
    return jobs


def first_jobs(jobs: Iterable[Job], limit: int) -> list[Job]:
    """Return these jobs by priority, turn and age, at most ``limit``."""
    return sorted(jobs, key=lambda job: (-job.priority, job.turn, job.id))[:limit]


def has_limited_jobs(jobs: Iterable[Job]) -> bool:
    """Return whether one of these jobs has a concurrency key or is in a queue with a limit."""
    limits = queue_limits()
    return any(job.concurrency_key or job.queue_name in limits for job in jobs)


def _lock_among(
    among: Q,
    now: datetime,
    limit: int,
    queues: Sequence[BackendQueue],
    executors: Capacities,
    limits: RunningLimits,
) -> list[Job]:
    # iexact matches none of the indexes of queued jobs: these are found by their ids and batches.
    backends, names = {backend for backend, _ in queues}, {name for _, name in queues}
    queued = Job.objects.using(database()).filter(
        among, state__iexact=Job.State.QUEUED, due_at=None, backend__in=backends, queue_name__in=names
    )
    queued = queued.exclude(queue_name__in=paused_queues()).exclude(concurrency_key__in=limits.closed_keys())
    queued = queued.filter(Q(expires_at=None) | Q(expires_at__gt=now))
    jobs: list[Job] = []
    for executor, most in executors.items():
        ready = queued.filter(executor=executor).order_by("-priority", "turn", "id")
        jobs += bulk.read(lock_query(ready)[:most])
    return first_jobs(jobs, limit)


class RunningLimits:
    """How many more jobs may be claimed of each queue, key and executor, inside the transaction of one claim.

    ``queue_limits``
        How many jobs of a queue may run at once, for the queues with a limit.
    ``executors``
        How many jobs of each executor may be claimed.
    ``joining``
        Running jobs that do not count for the limits of their queues, because they wait for jobs that may be claimed.
    """

    def __init__(
        self, queue_limits: dict[str, int], executors: Mapping[str, int], joining: Iterable[UUID] = ()
    ) -> None:
        self.queue_limits = queue_limits
        self._joining = set(joining)
        #: Names of which no more jobs may be claimed: they are at their limit, or another claim holds their lock.
        self.closed: set[LimitName] = set()
        #: The largest limit of the keys that were met so far.
        self.max_jobs_per_key = 1
        self._left: dict[LimitName, int] = {
            ("executor", executor): most for executor, most in executors.items()
        }
        self._running: Counter[LimitName] = Counter()
        self._has_counted = False

    def meet(self, jobs: list[Job]) -> None:
        """Lock the names of these jobs that are new, and count the running jobs of each."""
        names = {name for job in jobs for name in self._names(job)}
        self._lock(sorted(names - self._left.keys() - self.closed))
        self._count(jobs)

    def closed_keys(self) -> list[str]:
        """Return the concurrency keys of which no more jobs may be claimed."""
        return [name for kind, name in self.closed if kind == "key"]

    def take(self, jobs: list[Job], limit: int) -> list[Job]:
        """Return the first of these jobs that may run, at most ``limit``. All names of the jobs must have been met."""
        taken: list[Job] = []
        for job in jobs:
            if len(taken) == limit:
                break
            if self._take_one(job):
                taken.append(job)
        return taken

    def _take_one(self, job: Job) -> bool:
        names = [*self._names(job), ("executor", job.executor)]
        if any(name in self.closed for name in names):
            return False
        key = "key", job.concurrency_key
        places = self._running[key] * PLACES_PER_RUNNING_JOB.get(job.executor, 0)
        # It has none left if the executor of the job has changed since the claim found it.
        if self._left.get(("executor", job.executor), 0) <= places:
            self.closed.add(key)
            return False
        for name in names:
            self._running[name] += 1
            self._left[name] -= 1
            if self._left[name] <= 0:
                self.closed.add(name)
        return True

    def _names(self, job: Job) -> list[LimitName]:
        names = [("key", job.concurrency_key)] if job.concurrency_key else []
        return [*names, ("queue", job.queue_name)] if job.queue_name in self.queue_limits else names

    def _limit(self, name: LimitName, task_path: str) -> int:
        return self.queue_limits[name[1]] if name[0] == "queue" else policy_at(task_path).concurrency

    def _lock(self, names: list[LimitName]) -> None:
        """Take the advisory locks of these names. Those that another claim holds are closed."""
        locks = zip(names, try_lock_names(names), strict=True)
        self.closed.update(name for name, is_locked in locks if not is_locked)

    def _count(self, jobs: list[Job]) -> None:
        """Count the running jobs of the names that are new, the first time of all names.

        Names that are at their limit are closed the first time, so that the next pass leaves out all their jobs.
        """
        new = {name: job.task_path for job in jobs for name in self._names(job)}
        new = {name: path for name, path in new.items() if name not in self._left and name not in self.closed}
        if not new and self._has_counted:
            return
        running, paths = self._count_running()
        if not self._has_counted:
            self._has_counted = True
            full = (name for name, count in running.items() if count >= self._limit(name, paths[name]))
            self.closed.update(full)
        for name, path in new.items():
            limit = self._limit(name, path)
            self._running[name] = running[name]
            if name[0] == "key":
                self.max_jobs_per_key = max(self.max_jobs_per_key, limit)
            self._left[name] = limit - running[name]
            if self._left[name] <= 0:
                self.closed.add(name)

    def _count_running(self) -> tuple[Counter[LimitName], dict[LimitName, str]]:
        """Return how many jobs of each name run, and the path of a task that has the name."""
        with connection().cursor() as cursor:
            cursor.execute(*claim_queries.limited_running_jobs(self.queue_limits))
            counted = cursor.fetchall()
        counts: Counter[LimitName] = Counter()
        paths: dict[LimitName, str] = {}
        for id, key, queue, path in counted:
            for name in self._names(Job(concurrency_key=key, queue_name=queue)):
                # SQLite returns the hex digits.
                if name[0] == "queue" and self._joining and UUID(str(id)) in self._joining:
                    continue
                counts[name] += 1
                paths[name] = path
        return counts, paths


def full_queues(limits: dict[str, int]) -> set[str]:
    """Return the queues that have reached their limits. Without a lock, so that this may change at any moment."""
    rows = Job.objects.using(database()).filter(worker__isnull=False, state=Job.State.RUNNING)
    names = (
        rows.filter(queue_name__in=list(limits)).order_by("worker", "id").values_list("queue_name", flat=True)
    )
    return {name for name, count in Counter(names).items() if count >= limits[name]}


def select_within_limits(
    find: Callable[[RunningLimits], list[Job]], jobs: list[Job], limits: RunningLimits, max_jobs: int
) -> tuple[list[Job], bool]:
    """Return the jobs that may run now, at most ``max_jobs``, and whether there may be more.

    ``find``
        Returns the first jobs, at most ``max_jobs``, of the names that are not closed.
    ``jobs``
        What ``find`` has returned before any name was met.
    """
    taken: list[Job] = []
    for _ in range(MAX_PASSES):
        closed, jobs_per_key = len(limits.closed), limits.max_jobs_per_key
        limits.meet(jobs)
        # If a new key has a larger limit than those before, too few jobs of each key were found. Find more first.
        if not closed or limits.max_jobs_per_key == jobs_per_key:
            taken += limits.take(jobs, max_jobs - len(taken))
            if len(taken) >= max_jobs or len(limits.closed) == closed:
                return taken, False
        ids = {job.id for job in taken}
        jobs = [job for job in find(limits) if job.id not in ids]
        if not jobs:
            return taken, False
    return taken, True
