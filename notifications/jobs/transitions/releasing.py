"""Have workers claim jobs that an extension holds back (``jobs/declaring/holding.py``), by priority and turn.

The rows stay queued, with another executor.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import NamedTuple
from uuid import UUID

from django.db.models import Q

from notifications import streams
from notifications.db.bulk import lock_query
from notifications.db.clock import database_now
from notifications.db.transactions import connection, database, retrying_atomic
from notifications.extension import hooks
from notifications.jobs.claiming import candidates
from notifications.jobs.claiming.candidates import RunningLimits
from notifications.jobs.claiming.executors import QUARANTINED, executor_at, first_executor, stored_executor
from notifications.jobs.claiming.queues import queue_limits
from notifications.jobs.claiming.sources import Query, Source, names_of, queued_jobs
from notifications.jobs.declaring.holding import AFTER_HELD, HELD
from notifications.jobs.transitions.conditional_updates import update_locked_rows
from notifications.jobs.turns import move_clocks, next_places
from notifications.models import Attempt, Job

#: Jobs that ``release_all()`` releases of one queue and name.
MAX_RELEASED = 1_000


class HeldQueue(NamedTuple):
    """A queue of a backend with held jobs, due or not, and what they wait for, as ``hold()`` has named it."""

    backend: str
    queue: str
    name: str


def held_queues() -> list[HeldQueue]:
    """Return the queues with held jobs, in one query that reads no backlog."""
    query, params = _held_queues()
    with connection().cursor() as cursor:
        cursor.execute(query, params)
        return [
            HeldQueue(backend, queue, held.removeprefix(HELD)) for backend, queue, held in cursor.fetchall()
        ]


def condition() -> Query:
    """Return SQL that is true if a job is held, and its parameters."""
    query, params = _held_queues()
    return f"EXISTS ({query} LIMIT 1)", params


def first_held(queue: HeldQueue) -> Job | None:
    """Return a held job of a queue."""
    jobs = Job.objects.using(database()).filter(state__startswith=Job.State.QUEUED, backend=queue.backend)
    of_name = jobs.filter(queue_name=queue.queue, executor=HELD + queue.name)
    # In the order of the index: for that of the ids PostgreSQL may read the whole table.
    found: Job | None = of_name.order_by("run_after", "-priority", "turn", "id").first()
    return found


def release(queues: Sequence[HeldQueue], limit: int) -> list[Job]:
    """Release at most ``limit`` due jobs of queues with one name, those that a worker would claim first.

    Inside a transaction of the app's own. Jobs of paused queues, and of keys and queues at their limits, stay held.
    Returns the jobs, whose fences the next claim raises.
    """
    executor = HELD + queues[0].name
    limits = RunningLimits(queue_limits(), {executor: limit})
    names = [(queue.backend, queue.queue) for queue in queues]
    jobs = candidates.lock_jobs(database_now(), limit, names, Q(), {executor: limit}, limits)
    if not jobs:
        return []
    move_clocks(jobs)
    lost = _lost_last([job for job in jobs if job.attempt])
    executors = [
        stored_executor(QUARANTINED if job.id in lost else executor_at(job.task_path), job.backend)
        for job in jobs
    ]
    _move(jobs, executors)
    for job, new in zip(jobs, executors, strict=True):
        job.executor = new
    streams.ring((), queue=True)
    hooks.dispatch.wake_after_commit(jobs)
    return jobs


def hold_again(jobs: Iterable[Job]) -> list[UUID]:
    """Hold released jobs that have not begun, behind the others of their shares. Return the ids of those that had not.

    Inside a transaction of the app's own. ``jobs`` have their fences of when they were released.
    """
    fences = {job.id: job.fence for job in jobs}
    rows = Job.objects.using(database()).filter(id__in=list(fences), state=Job.State.QUEUED)
    found = [job for job in lock_query(rows) if job.fence == fences[job.id]]
    executors = [first_executor(job) for job in found]
    _move(found, executors)
    return [job.id for job in found]


def release_all() -> int:
    """Release all jobs that are due, whatever they wait for: in tests no process does. Return how many."""
    return sum(len(retrying_atomic(partial(release, [queue], MAX_RELEASED))) for queue in held_queues())


def _move(jobs: Sequence[Job], executors: Sequence[str]) -> None:
    # Delayed jobs have no turn.
    places = [
        place if job.run_after is None else (job.share_name, 0)
        for job, place in zip(jobs, next_places(jobs, executors), strict=True)
    ]
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
