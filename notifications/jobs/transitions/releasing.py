"""Have workers claim jobs that an extension holds back (``jobs/holding.py``), by priority and turn.

The rows stay queued, with another executor.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from django.db.models import Q, QuerySet

from notifications import streams
from notifications.db.bulk import lock_query
from notifications.db.clock import database_now
from notifications.db.transactions import connection, database, retrying_atomic
from notifications.extension import hooks
from notifications.jobs.claiming import candidates
from notifications.jobs.claiming.candidates import RunningLimits
from notifications.jobs.claiming.executors import QUARANTINED, executor_at, first_executor
from notifications.jobs.claiming.queues import queue_limits
from notifications.jobs.claiming.sources import Query, Source, names_of, queued_jobs
from notifications.jobs.holding import AFTER_HELD, HELD, is_held
from notifications.jobs.transitions.conditional_updates import update_locked_rows
from notifications.jobs.turns import move_clocks, next_places
from notifications.models import Attempt, Job

#: Jobs that ``release_all()`` releases of one name.
MAX_RELEASED = 1_000


@dataclass(frozen=True, slots=True)
class HeldJobs:
    """The queued jobs that are held back for one key of a `Hold`: no worker claims them until they are released.

    ``name``
        16 hex digits, which are the same for the same key of the same `Hold` in all versions: ``Hold.name_of()``.
    ``queues``
        The backend and the name of each queue with such jobs, for those that ``find()`` returns.
    """

    name: str
    queues: tuple[tuple[str, str], ...] = ()

    @classmethod
    def find(cls) -> list[HeldJobs]:
        """Return the held jobs of all keys, due or not, in one query that reads no backlog."""
        query, params = _held_queues()
        with connection().cursor() as cursor:
            cursor.execute(query, params)
            found = cursor.fetchall()
        queues: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for backend, queue, executor in found:
            queues[executor.removeprefix(HELD)].append((backend, queue))
        return [cls(name, tuple(of_name)) for name, of_name in queues.items()]

    @classmethod
    def of_job(cls, job: Job) -> HeldJobs | None:
        """Return the jobs that are held for the same as this one, None if it is not held. Without a query."""
        is_one = job.state == Job.State.QUEUED and is_held(job.executor)
        return cls(job.executor.removeprefix(HELD)) if is_one else None

    @staticmethod
    def condition() -> Query:
        """Return SQL that is true if a job is held, and its parameters: the ``condition`` of a duty."""
        query, params = _held_queues()
        return f"EXISTS ({query} LIMIT 1)", params

    @staticmethod
    def count(names: Iterable[str], limit: int) -> dict[str, int]:
        """Return how many jobs are held in the queue by each of these names, in one query.

        Of a name at most ``limit`` are counted.
        """
        executors = [HELD + name for name in names]
        if not executors:
            return {}
        # The conditions are those of an index.
        jobs = (
            "SELECT 1 FROM notifications_job WHERE state = 'queued' AND due_at IS NULL AND executor = column1"
        )
        sql = (
            f"SELECT column1, (SELECT count(*) FROM ({jobs} LIMIT {limit}) AS counted) "
            f"FROM (VALUES {', '.join(['(%s)'] * len(executors))}) AS names"
        )
        with connection().cursor() as cursor:
            cursor.execute(sql, executors)
            return {executor.removeprefix(HELD): count for executor, count in cursor.fetchall()}

    def rows(self) -> QuerySet[Job]:
        """Return the jobs that are in the queue, in the order in which ``release()`` takes them."""
        rows = Job.objects.using(database()).filter(state=Job.State.QUEUED, executor=self._executor)
        return rows.filter(due_at=None).order_by("-priority", "turn", "id")

    def first(self) -> Job | None:
        """Return one of the jobs, None if there is none. For those that ``find()`` returned."""
        backend, queue = self.queues[0]
        jobs = Job.objects.using(database()).filter(state__startswith=Job.State.QUEUED, backend=backend)
        of_name = jobs.filter(queue_name=queue, executor=self._executor)
        # In the order of the index: for that of the ids PostgreSQL may read the whole table.
        found: Job | None = of_name.order_by("due_at", "-priority", "turn", "id").first()
        return found

    def release(self, limit: int) -> list[Job]:
        """Release at most ``limit`` of the jobs that are in the queue, those that a worker would claim first.

        Inside ``retrying_atomic()``, for those that ``find()`` returned. Jobs of paused queues, and of keys and queues
        at their limits, stay held. Workers learn of the others after the commit. Returns the jobs, whose fences the
        next claim raises.
        """
        limits = RunningLimits(queue_limits(), {self._executor: limit})
        jobs = candidates.lock_jobs(
            database_now(), limit, self.queues, Q(), {self._executor: limit}, limits, []
        )
        if not jobs:
            return []
        move_clocks(jobs)
        lost = _lost_last([job for job in jobs if job.attempt])
        executors = [QUARANTINED if job.id in lost else executor_at(job.task_path) for job in jobs]
        _move(jobs, executors)
        for job, new in zip(jobs, executors, strict=True):
            job.executor = new
        streams.ring((), queue=True)
        hooks.dispatch.wake_after_commit(jobs)
        return jobs

    @staticmethod
    def hold_again(jobs: Iterable[Job]) -> list[UUID]:
        """Hold released jobs that have not begun, behind the others of their shares, for the keys of their tasks now.

        Inside ``retrying_atomic()``. ``jobs`` have their fences of when they were released. Returns the ids of those
        that had not begun.
        """
        fences = {job.id: job.fence for job in jobs}
        rows = Job.objects.using(database()).filter(id__in=list(fences), state=Job.State.QUEUED)
        found = [job for job in lock_query(rows) if job.fence == fences[job.id]]
        executors = [first_executor(job) for job in found]
        _move(found, executors)
        return [job.id for job in found]

    @property
    def _executor(self) -> str:
        return HELD + self.name


def release_all() -> int:
    """Release all jobs that are due, whatever they wait for: in tests no process does. Return how many."""
    return sum(len(retrying_atomic(partial(held.release, MAX_RELEASED))) for held in HeldJobs.find())


def _move(jobs: Sequence[Job], executors: Sequence[str]) -> None:
    places = next_places(jobs, executors)
    update_locked_rows(
        ("executor", "share_name", "turn"),
        [((new, *place), job) for job, new, place in zip(jobs, executors, places, strict=True)],
        states=(Job.State.QUEUED,),
    )


def _lost_last(jobs: Iterable[Job]) -> Collection[object]:
    """Return the ids of those of these jobs whose worker was lost in their last attempt, which may have ended it."""
    numbers = {job.id: job.attempt for job in jobs}
    if not numbers:
        return ()
    lost = Attempt.objects.using(database()).filter(job__in=list(numbers), outcome=Attempt.Outcome.LOST)
    return {id for id, number in lost.values_list("job", "number") if numbers[id] == number}


def _held_queues() -> Query:
    names, params = names_of(Source())
    following = f"SELECT min(executor) {queued_jobs()} AND backend = alias AND queue_name = name AND executor"
    sql = f"""
        WITH RECURSIVE {names}, held (alias, name, held_as) AS (
            SELECT alias, name, ({following} > '{HELD}' AND executor < '{AFTER_HELD}') FROM names
            UNION ALL
            SELECT alias, name, ({following} > held_as AND executor < '{AFTER_HELD}') FROM held
            WHERE held_as IS NOT NULL)
        SELECT alias, name, held_as FROM held WHERE held_as IS NOT NULL
    """
    return sql, params
