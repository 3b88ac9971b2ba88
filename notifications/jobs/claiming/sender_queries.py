"""The SQL that finds the jobs of the app's own senders to claim, by the indexes that ``claim_queries.py`` describes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from notifications.db.bulk import lock_sql, where_in
from notifications.db.clock import database_now_sql
from notifications.db.transactions import connection
from notifications.jobs.claiming.claim_queries import (
    BY_TURN,
    IS_STILL_QUEUED,
    MAX_DELAYED_SORTED,
    PAUSED_QUEUES,
    first_of_each,
    jobs_of_name,
    open_keys,
)
from notifications.jobs.claiming.executors import Capacities
from notifications.jobs.claiming.sources import BackendQueue, Query, values_of_names
from notifications.models import Job

#: Concurrency keys of senders that one claim looks at. The jobs of further keys are found when these have fewer, and
#: before that by their age.
MAX_KEYS = 500


def oldest_jobs(queues: Collection[BackendQueue], executors: Capacities) -> Query:
    """Return the query for the first due jobs of these queues and executors, without locks.

    Its rows are those of ``senders.Candidate``.
    """
    now, now_param = database_now_sql()
    firsts = []
    for executor, most in executors.items():
        jobs = f"{jobs_of_name()} AND executor = '{executor}'"
        found = first_of_each("open", jobs, most, MAX_DELAYED_SORTED, now)
        firsts.append(f"SELECT id, priority FROM ({found}) AS found {BY_TURN} {most}")
    return _candidates(queues, firsts, [], [now_param] * len(firsts))


def first_jobs_of_keys(queues: Collection[BackendQueue], jobs_per_key: Capacities) -> Query:
    """Return the same query as ``oldest_jobs`` for the first jobs of each concurrency key, by executor."""
    now, now_param = database_now_sql()
    ctes, firsts = [], []
    for executor, most in jobs_per_key.items():
        ctes += open_keys(executor, (), MAX_KEYS)
        jobs = f"{jobs_of_name('keyed')} AND executor = '{executor}' AND concurrency_key = key"
        firsts.append(first_of_each(f"free_{executor}", jobs, most, most, now))
    return _candidates(queues, firsts, ctes, [now_param] * len(firsts))


def due_jobs(ids: Collection[Any]) -> Query:
    """Return the clauses that find those of these jobs that are due, and lock them on PostgreSQL.

    ``ids`` are as the database returns them.
    """
    now, now_param = database_now_sql()
    of_ids, params = where_in(Job, "id", list(ids))
    clauses = f"""
        WHERE {of_ids} AND {IS_STILL_QUEUED} AND (run_after IS NULL OR run_after <= {now})
            AND queue_name NOT IN ({PAUSED_QUEUES}) ORDER BY id{lock_sql()}"""
    return clauses, [*params, now_param]


def _candidates(
    queues: Collection[BackendQueue], firsts: Collection[str], ctes: Collection[str], params: list[Any]
) -> Query:
    """Return the query for candidates whose ids the queries ``firsts`` yield, from the CTE of open queues."""
    found = " UNION ALL ".join(f"SELECT id FROM ({first}) AS first" for first in firsts)
    # See first_jobs_of_queues().
    of_ids = f"= ANY(ARRAY({found}))" if connection().vendor == "postgresql" else f"IN ({found})"
    names, name_params = values_of_names(queues)
    opened = f"open AS (SELECT alias, name FROM names WHERE name NOT IN ({PAUSED_QUEUES}))"
    sql = f"""
        WITH RECURSIVE {", ".join([names, opened, *ctes])}
        SELECT id, executor, priority, concurrency_key, task_path FROM notifications_job WHERE id {of_ids}
    """
    return sql, [*name_params, *params]
