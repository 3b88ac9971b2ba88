"""Queues in which jobs wait although they may run, whose processes a message wakes once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

from notifications.db.clock import database_now_sql
from notifications.db.transactions import connection
from notifications.jobs.claiming.candidates import full_queues
from notifications.jobs.claiming.claim_queries import PAUSED_QUEUES, values_of_executors
from notifications.jobs.claiming.executors import WORKER_EXECUTORS
from notifications.jobs.claiming.queues import queue_limits
from notifications.jobs.claiming.sources import (
    WAITS_SINCE,
    BackendQueue,
    Query,
    Source,
    names_of,
    queued_jobs,
    read_moment,
)


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
