"""Queues with jobs that wait although they may run: no live process takes them, or one is to be woken once more.

And the warnings of the log about them.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

from django.db.models import Q

from notifications.db.clock import database_now, database_now_sql, is_lease_valid
from notifications.db.transactions import connection, database
from notifications.extension import hooks
from notifications.jobs.claiming.candidates import MIN_WAIT_SECONDS, full_queues
from notifications.jobs.claiming.claim_queries import PAUSED_QUEUES, queues_with_due_jobs, values_of_executors
from notifications.jobs.claiming.executors import WORKER_EXECUTORS
from notifications.jobs.claiming.queues import queue_limits
from notifications.jobs.claiming.sources import (
    WAITS_SINCE,
    BackendQueue,
    Query,
    Source,
    builtin_source,
    names_of,
    queued_jobs,
    read_moment,
)
from notifications.jobs.listing import queued_in_index_order
from notifications.models import Job, Worker

logger = logging.getLogger("notifications.jobs")


def find_unserved_queues() -> set[BackendQueue]:
    """Return the queues with due jobs that no live process takes, of the built-in worker and of engines."""
    return unserved_queues() | untaken_queues(hooks.dispatch.taken_queues())


def unserved_queues() -> set[BackendQueue]:
    """Return the queues of the built-in worker with due jobs that no live worker takes."""
    live = claiming_workers().filter(is_lease_valid(database_now()), request="")
    served = {name for queues in live.values_list("queues", flat=True) for name in queues.split(",")}
    # A worker that takes all queues has "". Queues at their limits are included, because the jobs that run there may be
    # those of a lost worker.
    if "" in served:
        return set()
    return {queue for queue in _read_due_queues(builtin_source()) if queue[1] not in served}


def untaken_queues(taken: Mapping[str, Collection[str]]) -> set[BackendQueue]:
    """Return the queues with due jobs of these backends, without those that are taken, given by backend."""
    if not taken:
        return set()
    due = _read_due_queues(Source(backends=tuple(taken)))
    return {(backend, name) for backend, name in due if name not in taken[backend]}


def _read_due_queues(source: Source) -> list[BackendQueue]:
    """Return the queues that are not paused with jobs that are due, by index lookups: no backlog is read."""
    with connection().cursor() as cursor:
        cursor.execute(*queues_with_due_jobs(source, WORKER_EXECUTORS))
        return list(cursor.fetchall())


def waiting_jobs(taken: Mapping[str, Collection[str]], now: datetime) -> Any:
    """Return a queryset of the jobs of these backends that have been due for over ``MIN_WAIT_SECONDS``.

    ``taken``
        The queues that are left out, by backend.
    ``now``
        The database's time.
    """
    return jobs_that_wait(untaken_queues(taken), now)


def jobs_that_wait(queues: Collection[BackendQueue], now: datetime) -> Any:
    """Return a queryset of the jobs of these queues that have been due for over ``MIN_WAIT_SECONDS``."""
    latest = now - timedelta(seconds=MIN_WAIT_SECONDS)
    names: dict[str, set[str]] = defaultdict(set)
    for backend, name in queues:
        names[backend].add(name)
    of_queues = Q(pk__in=())
    for backend, of_backend in names.items():
        of_queues |= Q(backend=backend, queue_name__in=of_backend)
    # Scheduled jobs that are due have not joined the queue if no process is there.
    has_joined = Q(due_at=None) & (Q(run_after=None) | Q(run_after__lt=latest))
    return Job.objects.using(database()).filter(
        of_queues,
        has_joined | Q(due_at__lt=latest),
        state=Job.State.QUEUED,
        executor__in=WORKER_EXECUTORS,
        queued_at__lt=latest,
    )


def has_waited(job: Any, now: datetime) -> bool:
    """Return whether a queued job has been due for over ``MIN_WAIT_SECONDS``, as ``jobs_that_wait()`` has it."""
    since = max(job.queued_at, job.due_at or job.run_after or job.queued_at)
    return bool(since < now - timedelta(seconds=MIN_WAIT_SECONDS))


def claiming_workers() -> Any:
    """Return a queryset of the workers that claim jobs; those that claim none have a concurrency of 0."""
    return Worker.objects.using(database()).filter(concurrency__gt=0)


class WaitWarning:
    """Logs one warning when there are jobs that wait, and the next one only after there were none.

    ``find``
        Returns the queues in which jobs wait.
    ``describe``
        Returns why a job waits, and one sentence on what to do.
    """

    def __init__(
        self, find: Callable[[], Collection[BackendQueue]], describe: Callable[[Job], tuple[str, str]]
    ) -> None:
        self._find = find
        self._describe = describe
        self.has_warned = False

    def log(self) -> None:
        """Look for such jobs."""
        job = self._find_job()
        if job and not self.has_warned:
            reason, remedy = self._describe(job)
            logger.warning(
                "%s: job %s has waited for over %g s. %s", reason, job.pk, MIN_WAIT_SECONDS, remedy
            )
        self.has_warned = job is not None

    def _find_job(self) -> Job | None:
        if not (queues := self._find()):
            return None
        waiting = jobs_that_wait(queues, database_now()).only("backend", "queue_name")
        return next(filter(None, (part.first() for part in queued_in_index_order(waiting))), None)


wait_warning = WaitWarning(
    unserved_queues,
    lambda job: (f"No live worker takes queue {job.queue_name}", "Start a worker: manage.py run_jobs."),
)
other_wait_warning = WaitWarning(
    lambda: untaken_queues(hooks.dispatch.taken_queues()),
    lambda job: hooks.dispatch.describe_unserved(job),
)


def warn_of_unserved_jobs() -> None:
    """Log one warning for jobs of the built-in worker that wait, and one for those that it does not serve."""
    wait_warning.log()
    other_wait_warning.log()


class WaitingQueue(NamedTuple):
    """A queue with jobs that wait: how many, at most the number that is read, and since when the first of them."""

    jobs: int
    since: datetime


@dataclass(frozen=True, slots=True)
class WaitingQueues:
    """The queues of these backends with jobs due for so many seconds, which are neither paused nor full.

    At most ``limit`` jobs of each are read, the first ones. ``queues`` has names; all if empty.
    """

    backends: Sequence[str]
    seconds: float
    limit: int
    queues: tuple[str, ...] = ()

    def condition(self) -> tuple[str, Sequence[Any]]:
        """Return SQL that is true if ``read()`` may find something, and its parameters."""
        sql, params = self._query()
        return f"EXISTS ({sql})", params

    def read(self) -> dict[BackendQueue, WaitingQueue]:
        """Return them, each with the number of its jobs and since when the first waits.

        In one query, two more if it finds something.
        """
        found: dict[BackendQueue, WaitingQueue] = {}
        with connection().cursor() as cursor:
            cursor.execute(*self._query())
            for alias, name, count, since in cursor.fetchall():
                moment = cast("datetime", read_moment(since))
                before = found.get((alias, name), WaitingQueue(0, moment))
                found[alias, name] = WaitingQueue(before.jobs + count, min(before.since, moment))
        names = {name for _, name in found}
        limits = {name: limit for name, limit in queue_limits().items() if name in names}
        full = full_queues(limits) if limits else set()
        return {queue: each for queue, each in found.items() if queue[1] not in full}

    def _query(self) -> Query:
        """Return the query for backend, queue, number and first time of the jobs of each executor, if they wait."""
        wait = timedelta(seconds=self.seconds)
        # A time ahead was stored by a clock that is.
        (before, before_param), (after, after_param) = database_now_sql(-wait), database_now_sql(wait)
        names, params = names_of(Source(backends=tuple(self.backends), queues=self.queues))
        jobs = f"{queued_jobs()} AND backend = alias AND queue_name = name AND executor = open_executor"
        order = f"ORDER BY due_at, priority DESC, turn, id LIMIT {self.limit}"
        due = f"(SELECT {WAITS_SINCE} AS since {jobs} AND due_at IS NULL {order}) AS due"
        sql = f"""
            WITH RECURSIVE {names}, {values_of_executors(WORKER_EXECUTORS)}
            SELECT * FROM (
                SELECT alias, name, (SELECT count(*) FROM {due}) AS jobs, (SELECT min(since) FROM {due}) AS since
                FROM names CROSS JOIN executors WHERE name NOT IN ({PAUSED_QUEUES})
            ) AS found WHERE since < {before} OR since > {after}
        """
        return sql, [*params, before_param, after_param]
