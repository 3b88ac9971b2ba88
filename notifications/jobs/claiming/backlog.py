"""Queued jobs: how many there are in each queue, since when they wait, and for what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from notifications.db.clock import database_now, database_now_sql
from notifications.db.transactions import dialect, execute_many
from notifications.jobs.claiming.candidates import MIN_WAIT_SECONDS
from notifications.jobs.claiming.claim_queries import PAUSED_QUEUES, jobs_of_name, values_of_executors
from notifications.jobs.claiming.executors import SENDER_EXECUTORS, WORKER_EXECUTORS
from notifications.jobs.claiming.sources import (
    WAITS_FOR_LIMIT,
    WAITS_SINCE,
    Query,
    Source,
    limited_jobs,
    names_of,
    read_moment,
)
from notifications.jobs.claiming.unserved import find_unserved_queues

#: The queues that are read at most, in the order of their names.
MAX_QUEUES = 50
#: The jobs that are counted of a queue, and of all queues together; a count that reaches the limit is a lower bound.
MAX_COUNTED_PER_QUEUE, MAX_COUNTED = 10_000, 100_000
#: Waiting jobs from which on a share is large, and the seconds for which it may hold over half of a queue.
MIN_LARGE_SHARE, MAX_SHARE_WAIT_SECONDS = 20, 60
#: The jobs of the highest and of the lowest priority among which the one that waits longest is searched.
MAX_OLDEST_READ = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueDepth:
    """The queued jobs of one queue.

    ``due`` jobs may start now, ``delayed`` ones are scheduled for later. With ``is_capped`` there are more that are
    due, with ``is_delayed_capped`` more that are delayed. ``oldest_since`` is when the job that waits longest became
    due. ``limited`` jobs are in the queue too, and wait for the limit of a key. ``unserved`` are the ``due`` jobs that
    no live process takes. ``waiting_reasons.count_reasons()`` says why all of them wait.
    """

    name: str
    due: int = 0
    delayed: int = 0
    limited: int = 0
    unserved: int = 0
    is_capped: bool = False
    is_delayed_capped: bool = False
    is_paused: bool = False
    oldest_since: datetime | None = None

    def has_waited(self, now: datetime) -> bool:
        """Return whether a job that may start has waited for over ``MIN_WAIT_SECONDS``, by the database's time."""
        return not self.is_paused and is_old(self.oldest_since, now)

    @property
    def in_queue(self) -> int:
        """How many jobs are in the queue, also those that wait for the limit of a key."""
        return self.due + self.limited

    @property
    def total(self) -> int:
        """How many jobs are queued, whatever they wait for."""
        return self.in_queue + self.delayed


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueDepths:
    """The depths of at most ``MAX_QUEUES`` queues. With ``is_cut`` more queues have jobs, which were not read."""

    queues: list[QueueDepth]
    is_cut: bool

    def of(self, name: str, *, is_paused: bool) -> QueueDepth:
        """Return the depth of a queue, also of one without jobs, which may be paused."""
        found = (depth for depth in self.queues if depth.name == name)
        return next(found, QueueDepth(name=name, is_paused=is_paused))

    def find_large_shares(self) -> list[LargeShare]:
        """Return the shares that hold over half of a queue for over ``MAX_SHARE_WAIT_SECONDS``.

        At least ``MIN_LARGE_SHARE`` jobs. The jobs that begin first are read, as many as were counted, in one query;
        without so many jobs in a queue in none.
        """
        if all(depth.due < MIN_LARGE_SHARE for depth in self.queues):
            return []
        rows = execute_many([*dialect().without_compilation(), _shares_query()])[-1]
        now, totals = database_now(is_estimate=True), Counter[str]()
        for name, _, jobs, _ in rows:
            totals[name] += jobs
        shares = [
            LargeShare(name, share, jobs, totals[name], (now - moment).total_seconds())
            for name, share, jobs, since in rows
            if jobs >= MIN_LARGE_SHARE and 2 * jobs > totals[name] and (moment := read_moment(since))
        ]
        return [share for share in shares if share.waited_seconds > MAX_SHARE_WAIT_SECONDS]


def queue_depths(
    executors: Collection[str] = (),
    *,
    is_paused: bool | None = None,
    source: Source | None = None,
    backend: str = "",
    has_senders: bool = True,
) -> QueueDepths:
    """Return the depth of each queue that has queued jobs, at most ``MAX_QUEUES``, in one query.

    If jobs have waited for over ``MIN_WAIT_SECONDS``, a few more find out whether a live process takes them.

    ``executors``
        Those of the jobs that are counted; by default all queued jobs are.
    ``is_paused``
        Whether to read paused queues only (True), or the others only (False).
    ``source``, ``backend``
        The backends and queues that are read, or a backend (alias in ``TASKS``) alone; all by default.
    ``has_senders``
        Whether jobs count with which the app sends messages.
    """
    has_limited = not executors
    executors = executors or WORKER_EXECUTORS
    if not has_senders:
        executors = [executor for executor in executors if executor not in SENDER_EXECUTORS]
    if backend:
        source = Source(backends=(backend,))
    query = _depths_query(executors, is_paused, source or Source(), has_limited=has_limited)
    rows = execute_many([*dialect().without_compilation(), query])[-1]
    now = database_now(is_estimate=True)
    has_waited = any(
        not row[2] and any(is_old(read_moment(value), now) for value in row[-3:]) for row in rows
    )
    unserved = find_unserved_queues() if has_waited else set()
    found: dict[str, QueueDepth] = {}
    for alias, name, is_queue_paused, limit, ready, late, delayed, limited, *since in rows:
        moments = [moment for value in since if (moment := read_moment(value))]
        before = found.get(name, QueueDepth(name=name))
        if before.oldest_since:
            moments.append(before.oldest_since)
        due = min(ready, limit) + min(late, limit)
        found[name] = QueueDepth(
            name=name,
            due=due + before.due,
            unserved=due * ((alias, name) in unserved) + before.unserved,
            delayed=min(delayed, limit) + before.delayed,
            limited=min(limited, limit) + before.limited,
            is_capped=max(ready, late, limited) > limit or before.is_capped,
            is_delayed_capped=delayed > limit or before.is_delayed_capped,
            is_paused=bool(is_queue_paused),
            oldest_since=min(moments, default=None),
        )
    # Those that wait for a limit have a time too, at which they join the queue if nothing has opened it before.
    depths = [replace(depth, delayed=max(depth.delayed - depth.limited, 0)) for depth in found.values()]
    depths = [depth for depth in depths if depth.total]
    return QueueDepths(queues=depths[:MAX_QUEUES], is_cut=len(depths) > MAX_QUEUES)


def is_old(since: datetime | None, now: datetime) -> bool:
    return since is not None and since < now - timedelta(seconds=MIN_WAIT_SECONDS)


class LargeShare(NamedTuple):
    """A share that holds over half of the jobs that wait in a queue.

    Its first job has waited for ``waited_seconds``. Of a longer backlog ``total`` is what was read of it.
    """

    queue: str
    share: str
    jobs: int
    total: int
    waited_seconds: float


def _depths_query(
    executors: Collection[str], is_paused: bool | None, source: Source, *, has_limited: bool
) -> Query:
    now, now_param = database_now_sql()
    jobs = f"{jobs_of_name()} AND executor = open_executor"
    limit = "(SELECT most FROM bound)"
    count = f"(SELECT count(*) FROM (SELECT 1 {jobs} AND {{}} LIMIT {limit} + 1) AS counted)"
    lowest_first = "ORDER BY due_at DESC, priority, turn DESC, id DESC LIMIT 1"
    lowest = f"(SELECT priority {jobs} AND due_at IS NULL {lowest_first})"
    oldest = (
        f"(SELECT min(since) FROM (SELECT {WAITS_SINCE} AS since {jobs} AND due_at IS NULL {{}}"
        f"ORDER BY due_at, priority DESC, turn, id LIMIT {MAX_OLDEST_READ}) AS oldest)"
    )
    condition = "" if is_paused is None else f"name {'IN' if is_paused else 'NOT IN'} ({PAUSED_QUEUES}) AND"
    ctes, params = _queues_to_read(executors, condition, source)
    paused = "EXISTS (SELECT 1 FROM notifications_queue q WHERE q.name = {} AND paused_at IS NOT NULL)"
    sql = f"""
        WITH RECURSIVE {ctes}
        SELECT alias, name, {paused.format("open.name")}, {limit},
            {count.format("due_at IS NULL")},
            {count.format(f"due_at <= {now}")},
            {count.format(f"due_at > {now}")},
            0 AS limited,
            {oldest.format("")},
            {oldest.format(f"AND priority = {lowest} ")},
            (SELECT due_at {jobs} AND due_at <= {now} ORDER BY due_at LIMIT 1)
        FROM open CROSS JOIN executors
    """
    if not has_limited:
        return sql, [*params, *[now_param] * 3]
    limited = f"{limited_jobs()} AND backend = alias AND queue_name = name AND {WAITS_FOR_LIMIT}"
    counted = f"(SELECT count(*) FROM (SELECT 1 {limited} LIMIT {MAX_COUNTED_PER_QUEUE} + 1) AS counted)"
    sql += f"""
        UNION ALL SELECT alias, name, {paused.format("names.name")}, {MAX_COUNTED_PER_QUEUE}, 0, 0, 0, {counted},
            NULL, NULL, NULL
        FROM names WHERE {condition} (SELECT true {limited} LIMIT 1)
    """
    return sql, [*params, *[now_param] * 3]


def _shares_query() -> Query:
    """Return the query for queue, share, number of jobs, and since when the first of them waits."""
    of_turns = f"{jobs_of_name()} AND executor = open_executor AND due_at IS NULL"
    limit = "LIMIT (SELECT most FROM bound)"
    job = dialect().join_each("share_name, queued_at, run_after", f"{of_turns} {limit}", "job")
    ctes, params = _queues_to_read(WORKER_EXECUTORS, f"name NOT IN ({PAUSED_QUEUES}) AND", Source())
    sql = f"""
        WITH RECURSIVE {ctes}
        SELECT name, job.share_name, count(*), min({WAITS_SINCE}) FROM open CROSS JOIN executors {job}
        GROUP BY name, job.share_name
    """
    return sql, params


def _queues_to_read(executors: Collection[str], condition: str, source: Source) -> Query:
    """Return CTEs: ``open``, the queues with jobs that meet the condition, and ``bound``, the jobs to read of each."""
    names, params = names_of(source)
    jobs = f"{jobs_of_name()} AND executor = open_executor"
    has_jobs = f"(SELECT true FROM executors WHERE (SELECT true {jobs} LIMIT 1) LIMIT 1)"
    # One queue more than are returned shows whether there are more.
    ctes = f"""{names}, {values_of_executors(executors)},
        open (alias, name) AS (
            SELECT alias, name FROM names WHERE {condition} {has_jobs} LIMIT {MAX_QUEUES} + 1),
        bound (most) AS (SELECT CASE WHEN count(*) * {MAX_COUNTED_PER_QUEUE} <= {MAX_COUNTED}
            THEN {MAX_COUNTED_PER_QUEUE} ELSE {MAX_COUNTED} / count(*) END FROM open)"""
    return ctes, params
