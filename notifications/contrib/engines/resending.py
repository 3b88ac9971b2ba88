"""Send ids again that may be lost: of jobs that were dispatched to their engines and that no process has claimed.

Most such jobs wait behind others in the engine, whose broker must not get a long backlog over and over. Lost is

- what the engine has overtaken: it has begun a job that was dispatched well after this one;
- what it does not run although it runs nothing else of the queue;
- what was sent before a process of the engine had taken all messages of the queue (``DrainedQueues``).

Of the others each process sends only a few at a time.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import F, Q

from notifications.contrib.engines import dispatching
from notifications.db.bulk import lock_query
from notifications.db.clock import database_now
from notifications.db.transactions import database, retrying_atomic
from notifications.extension import BackendQueue
from notifications.jobs.claiming.executors import DISPATCHED, ENGINE, ENGINE_QUARANTINED
from notifications.jobs.transitions.conditional_updates import conditional_update
from notifications.models import Job

#: How many jobs each process sends again per second although the engine seems to come to them: those of queues of
#: which it runs jobs, and those of queues of which it has only finished jobs lately, so that their ids may be lost.
MAX_JOBS_BEHIND_OTHERS, MAX_JOBS_OF_IDLE = 1, 10
#: A job is overtaken if the engine has begun one that was dispatched so many seconds later.
OVERTAKEN_SECONDS = 5.0
#: How often a job was dispatched when its interval has its full length.
DISPATCHES_OF_FULL_INTERVAL = 8
#: An engine runs jobs of a queue if it has finished one within so many seconds, of so many finished jobs.
RECENT_SECONDS, MAX_RECENT_JOBS = 5.0, 100
#: Running jobs of engines that are read at most.
MAX_RUNNING_JOBS = 5_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Activity:
    """What engines run now or have finished within the last seconds.

    ``newest``: for each priority, when the newest claimed job was dispatched. ``running``: where jobs run now.
    """

    newest: dict[BackendQueue, dict[int, datetime | None]]
    running: set[BackendQueue]


@dataclass(slots=True)
class Cursor:
    """The last job that a process has looked at, so that it comes to all of a long backlog without writing to it."""

    after: tuple[datetime, UUID] | None = None


def dispatch_again(
    unreachable: Collection[str] = (),
    drained: Mapping[BackendQueue, float] | None = None,
    cursor: Cursor | None = None,
) -> list[Job]:
    """Return jobs whose ids were dispatched and that are still queued, to be sent again.

    ``unreachable`` are the backends whose engines did not answer this process: one job is sent, which tries them again.
    ``drained`` are the queues of which this process had taken all messages so many seconds ago.
    """
    cursor = cursor or Cursor()
    now = database_now()
    drained_at = {queue: now - timedelta(seconds=seconds) for queue, seconds in (drained or {}).items()}
    rows = Job.objects.using(database()).filter(
        Q(next_dispatch_at__lte=now) | _sent_before(drained_at), state=Job.State.QUEUED, executor=DISPATCHED
    )
    if not rows.order_by("next_dispatch_at", "id").exists():
        return []
    activity = read_activity(now)

    def write() -> list[Job]:
        now = database_now()
        limit = dispatching.MAX_JOBS_PER_TRANSACTION
        jobs = list(lock_query(_after(rows, cursor).order_by("next_dispatch_at", "id"))[:limit])
        is_last = len(jobs) < limit
        position = (
            None if is_last or not jobs[-1].next_dispatch_at else (jobs[-1].next_dispatch_at, jobs[-1].id)
        )
        sent, unsent = _choose_trials(jobs, unreachable)
        behind_others: list[Job] = []
        of_idle: list[Job] = []
        for job in jobs:
            queue = (job.backend, job.queue_name)
            if job.backend in unreachable:
                continue
            if _was_sent_before(job, drained_at.get(queue)) or _is_lost(job, activity):
                sent.append(job)
            else:
                (behind_others if queue in activity.running else of_idle).append(job)
        sent += behind_others[:MAX_JOBS_BEHIND_OTHERS] + of_idle[:MAX_JOBS_OF_IDLE]
        for job in sent:
            job.dispatched_at = job.dispatched_at or now
        dispatching.mark_dispatched(sent, now)
        conditional_update(
            "next_dispatch_at=%s",
            [((dispatching.next_dispatch(now),), job) for job in unsent],
            state="queued",
        )
        cursor.after = position
        return sent

    return retrying_atomic(write)


def read_activity(now: datetime) -> Activity:
    """Return the activity. ``now`` is the database's time."""
    jobs = Job.objects.using(database()).filter(executor__in=(ENGINE, ENGINE_QUARANTINED))
    # The orders of the indexes of running and of finished jobs.
    running = jobs.filter(state=Job.State.RUNNING, worker__isnull=False).order_by("worker", "id")
    finished = jobs.filter(finished_at__gte=now - timedelta(seconds=RECENT_SECONDS)).order_by("-finished_at")
    columns = ("backend", "queue_name", "priority", "dispatched_at")
    running_rows = list(running.values_list(*columns)[:MAX_RUNNING_JOBS])
    newest: dict[BackendQueue, dict[int, datetime | None]] = defaultdict(dict)
    for backend, queue, priority, dispatched_at in [
        *running_rows,
        *finished.values_list(*columns)[:MAX_RECENT_JOBS],
    ]:
        times = newest[backend, queue]
        times[priority] = max(filter(None, (times.get(priority), dispatched_at)), default=None)
    return Activity(newest=dict(newest), running={(backend, queue) for backend, queue, *_ in running_rows})


def find_stalled(queues: Collection[BackendQueue], now: datetime) -> set[BackendQueue]:
    """See ``Dispatch.find_stalled()``."""
    return set(queues) - read_activity(now).newest.keys()


def _after(rows: Any, cursor: Cursor) -> Any:
    if cursor.after is None:
        return rows
    next_dispatch_at, id = cursor.after
    # The first condition is for the index.
    return rows.filter(
        Q(next_dispatch_at__gt=next_dispatch_at) | Q(id__gt=id), next_dispatch_at__gte=next_dispatch_at
    )


def _sent_before(drained_at: Mapping[BackendQueue, datetime]) -> Q:
    """Return the condition for jobs whose ids were last sent before a process had taken all messages of their queue.

    The time of the last dispatch is not stored. It is at least the shortest interval before ``next_dispatch_at``.
    """
    condition = Q(pk__in=())
    for (backend, queue), moment in drained_at.items():
        of_queue = Q(backend=backend, queue_name=queue)
        for number in range(1, DISPATCHES_OF_FULL_INTERVAL + 1):
            dispatch_count = F("attempt") + number
            if number == 1:
                is_number = Q(dispatch_count__lte=dispatch_count)
            elif number == DISPATCHES_OF_FULL_INTERVAL:
                is_number = Q(dispatch_count__gte=dispatch_count)
            else:
                is_number = Q(dispatch_count=dispatch_count)
            condition |= of_queue & is_number & Q(next_dispatch_at__lte=moment + _shortest_interval(number))
    return condition


def _was_sent_before(job: Job, drained_at: datetime | None) -> bool:
    """Return whether the condition of ``_sent_before()`` is met by a job, given the time of its queue."""
    if drained_at is None or job.next_dispatch_at is None:
        return False
    number = min(max(job.dispatch_count - job.attempt, 1), DISPATCHES_OF_FULL_INTERVAL)
    return bool(job.next_dispatch_at <= drained_at + _shortest_interval(number))


def _shortest_interval(dispatch_count: int) -> timedelta:
    return timedelta(seconds=dispatching.interval_seconds(dispatch_count - 1) * (1 - dispatching.JITTER))


def _choose_trials(jobs: Sequence[Job], unreachable: Collection[str]) -> tuple[list[Job], list[Job]]:
    """Return one job of each backend whose engine did not answer, at random, and the others of these backends."""
    chosen: list[Job] = []
    others: list[Job] = []
    for alias in unreachable:
        of_backend = [job for job in jobs if job.backend == alias]
        random.shuffle(of_backend)
        chosen += of_backend[:1]
        others += of_backend[1:]
    return chosen, others


def _is_lost(job: Job, activity: Activity) -> bool:
    """Return whether the engine has begun jobs that were dispatched well after this one, or none of its queue."""
    newest = activity.newest.get((job.backend, job.queue_name))
    since = job.dispatched_at
    if newest is None or since is None:
        return True
    # Jobs of a higher priority overtake it in any case.
    return any(
        dispatched_at is not None and (dispatched_at - since).total_seconds() > OVERTAKEN_SECONDS
        for priority, dispatched_at in newest.items()
        if priority <= job.priority
    )
