r"""The SQL that finds the jobs to claim.

A backlog that may not be claimed (a paused or full queue, another worker's queues, a full concurrency key, an executor
without free slots) must not be read, however long it is: each ring has each worker look. So each query begins with a
list of queues or keys, and reads the first rows of each from an index that begins with the same columns.
``tests/data/test_plans_of_claims.py`` counts the rows that are read beside a backlog of 10,000.

Partial indexes, each with the queued jobs only::

    notifications_job_ready    (executor, priority DESC, turn, id)
                                                                WHERE state = 'queued' AND due_at IS NULL
    notifications_job_scheduled  (due_at, id)                   WHERE state = 'queued' AND due_at IS NOT NULL
    notifications_job_queued   (backend, queue_name, executor, due_at, priority DESC, turn, id)
                                                                WHERE state LIKE 'queued%'
    notifications_job_keyed    (backend, queue_name, executor, concurrency_key, priority DESC, turn, id)
                                                                WHERE state LIKE '%queued' AND due_at IS NULL
    notifications_job_share    (backend, queue_name, executor, priority, share_name, turn DESC)
                                                                WHERE state LIKE '%queued%' AND due_at IS NULL

The backend is the first column, because two backends may have queues of one name, and different workers run their jobs.

Which of them a query may use is decided by how it spells that a job is queued: a planner takes a partial index only if
it can prove the index's predicate from the query's conditions, and it cannot prove any of these from another.
With one spelling for all, PostgreSQL chooses by statistics. Those of an idle hour say that each index is almost empty,
so that all of them cost the same, and it may walk ``ready`` through the whole backlog of a paused queue, filtering by
``queue_name``. SQLite gets the index by name as well (INDEXED BY fails when the index cannot be used), with the
predicate spelled exactly as in the index: Django writes it with ESCAPE.

``state || '' = 'queued'`` matches no index. It rechecks rows that are already found by their ids; with a spelling that
matches, PostgreSQL may read a partial index instead of looking the ids up.

A narrow table of queued jobs, as solid_queue has one, whose row is inserted with the job and deleted by its claim,
needs no such spellings. It was measured with the same indexes, and is no faster: on PostgreSQL the plan of a claim
takes 0.29 instead of 0.34 ms, and on SQLite an enqueued job writes 12.7 instead of 12.6 pages to the log. Each change
of a state would have to maintain its rows.

Names and keys that have jobs are enumerated by a recursive CTE, one index lookup each ("loose index scan"), until a
lookup returns NULL. DISTINCT would read the whole index.

Only jobs in the queue are claimed: ``due_at`` is NULL. They are in the order of claiming within (backend, queue,
executor, NULL): by priority, turn and age. Scheduled jobs join them when they are due: see
``transitions/queueing.py``.

Turns of two queues or executors are of two clocks (``jobs/turns.py``), and cannot be compared. So one claim takes the
first job of each queue and executor, then the second of each, and so on. Which of them is the first is random: by age a
long backlog of one queue would keep a single slot from all others.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from notifications.db.bulk import lock_sql
from notifications.db.clock import database_now_sql
from notifications.db.transactions import dialect
from notifications.jobs.claiming.executors import SENDER_EXECUTORS, Capacities
from notifications.jobs.claiming.sources import Query, Source, names_of, placeholders, queued_jobs

#: How many more ids than needed are read on PostgreSQL, because other workers may hold the first rows locked.
EXTRA_ROWS_READ = 300
#: How many concurrency keys of senders one claim enumerates: each user has one. The jobs of further keys are found when
#: these have fewer, and before that when it is their turn.
MAX_SENDER_KEYS = 500

_ALL_QUEUED = "FROM notifications_job WHERE state = 'queued'"
_IS_STILL_QUEUED = "state || '' = 'queued'"
PAUSED_QUEUES = "SELECT name FROM notifications_queue WHERE paused_at IS NOT NULL"
#: The order of claiming within one queue and executor, and over several, by the place that a job has in its own.
_BY_TURN = "ORDER BY priority DESC, turn, id LIMIT"
_BY_PLACE = "ORDER BY priority DESC, place, random() LIMIT"
#: The order of the index "queued". With due_at IS NULL it is the order of claiming.
_BY_INDEX = "ORDER BY due_at, priority DESC, turn, id LIMIT"


def due_queues(source: Source, executors: Collection[str]) -> Query:
    """Return the query for the first job of each backend, queue and executor.

    Its rows are these three and the keys of the job in one text, NULL if there is none.
    """
    jobs = f"{jobs_of_name()} AND executor = open_executor AND due_at IS NULL"
    names, params = names_of(source)
    sql = f"""
        WITH RECURSIVE {names}, {values_of_executors(executors)}
        SELECT alias, name, open_executor, (SELECT concurrency_key || limit_key {jobs} {_BY_INDEX} 1)
        FROM names CROSS JOIN executors WHERE name NOT IN ({PAUSED_QUEUES})
    """
    return sql, params


def queues_with_due_jobs(source: Source, executors: Collection[str]) -> Query:
    """Return the query for the queues that are not paused with jobs that are due, in the queue or not yet."""
    now, now_param = database_now_sql()
    names, params = names_of(source)
    jobs = f"SELECT 1 {jobs_of_name()} AND executor = open_executor AND"
    sql = f"""
        WITH RECURSIVE {names}, {values_of_executors(executors)}
        SELECT DISTINCT alias, name FROM names CROSS JOIN executors WHERE name NOT IN ({PAUSED_QUEUES})
            AND coalesce(({jobs} due_at IS NULL LIMIT 1), ({jobs} due_at <= {now} ORDER BY due_at LIMIT 1)) = 1
    """
    return sql, [*params, now_param]


def first_jobs_of_all_queues(limit: int, executors: Capacities, limited_queues: Collection[str]) -> Query:
    """Return the query that locks the first jobs of all backends and queues, on PostgreSQL.

    It reads the index "ready" whatever these are, the fastest way where no job is held back. So it finds nothing
    if a queue is paused, or a job of a queue with a limit is queued. It is not fair among queues.
    """
    condition = f"NOT EXISTS ({PAUSED_QUEUES})"
    params: list[Any] = []
    if limited_queues:
        of_name = f"{jobs_of_name()} AND executor = open_executor"
        names, name_params = names_of(Source(queues=tuple(limited_queues)))
        condition += f""" AND NOT EXISTS (
            WITH RECURSIVE {names}, {values_of_executors(executors)}
            SELECT 1 FROM names, executors WHERE (SELECT true {of_name} AND due_at IS NULL {_BY_INDEX} 1)
        )"""
        params += name_params
    jobs = f"{_ALL_QUEUED} AND executor = open_executor AND due_at IS NULL"
    place = "row_number() OVER (PARTITION BY open_executor, priority ORDER BY turn, id)"
    firsts = f"""
        SELECT open_executor, priority, {place} AS place
        FROM executors, LATERAL (SELECT id, priority, turn {jobs} {_BY_TURN} most) AS first
    """
    best, select = _lock_first(
        "id, concurrency_key, limit_key, expires_at", limit, jobs, firsts, ("open_executor",), condition
    )
    most_of_executors = ", ".join(f"('{executor}', {most})" for executor, most in executors.items())
    return f"WITH executors (open_executor, most) AS (VALUES {most_of_executors}), {best} {select}", params


def can_lock_first_jobs() -> bool:
    """Return whether one query finds and locks the first jobs, so that one statement claims them."""
    return not dialect().has_one_writer


def first_jobs_of_queues(
    columns: str,
    limit: int,
    names: Query,
    executors: Capacities,
    closed_keys: Collection[str] = (),
    jobs_per_key: int = 1,
    *,
    with_expired: bool = True,
) -> Query:
    """Return the query for the first jobs of these queues. On PostgreSQL it locks them.

    ``names``
        What ``names_of()`` or ``values_of_names()`` returns.
    ``closed_keys``
        Concurrency keys whose jobs are left out. With any, the other keys that have jobs are enumerated, and at most
        ``jobs_per_key`` jobs of each are read, beside the jobs without a key.
    ``with_expired``
        The first jobs may have expired. Otherwise the query reads all that have, until they are ended.
    """
    locks_rows = can_lock_first_jobs()
    ctes = [names[0], f"open AS (SELECT alias, name FROM names WHERE name NOT IN ({PAUSED_QUEUES}))"]
    params: list[Any] = [*names[1]]
    unexpired, now_params = "", []
    if not with_expired:
        now, now_param = database_now_sql()
        unexpired, now_params = f" AND (expires_at IS NULL OR expires_at > {now})", [now_param]
    firsts = {}
    for executor, most in executors.items():
        rows = most + EXTRA_ROWS_READ if locks_rows else most
        if closed_keys:
            ctes += _open_keys(executor, closed_keys)
            params += closed_keys
            jobs = f"{jobs_of_name('keyed')} AND executor = '{executor}'{unexpired} AND concurrency_key"
            parts = [
                _first_of_each("open", f"{jobs} = '' AND due_at IS NULL {_BY_TURN} {rows}"),
                _first_of_each(
                    f"free_{executor}", f"{jobs} = key AND due_at IS NULL {_BY_TURN} {jobs_per_key}"
                ),
            ]
        else:
            jobs = f"{jobs_of_name()} AND executor = '{executor}' AND due_at IS NULL{unexpired}"
            parts = [_first_of_each("open", f"{jobs} {_BY_INDEX} {rows}")]
        place = "row_number() OVER (PARTITION BY alias, name, priority ORDER BY turn, id) AS place"
        found = f"SELECT id, alias, name, priority, {place} FROM ({' UNION ALL '.join(parts)}) AS found"
        ctes.append(f"found_{executor} AS ({found} ORDER BY priority DESC, place LIMIT {rows})")
        params += now_params * len(parts)
        firsts[executor] = f"SELECT * FROM found_{executor} {_BY_PLACE} {most}"
    if not locks_rows:
        of_all_executors = " UNION ALL ".join(f"SELECT * FROM ({first})" for first in firsts.values())
        sql = f"""
            WITH RECURSIVE {", ".join(ctes)}
            SELECT {columns} FROM notifications_job
            WHERE id IN (SELECT id FROM ({of_all_executors}) {_BY_PLACE} {limit})
        """
        return sql, params
    # = ANY(ARRAY(...)) looks up each id. A join or IN would be planned by estimates, which may prefer a scan of the
    # table. The conditions are repeated here because FOR UPDATE evaluates them again, and not the CTEs, for a row that
    # another transaction changed after the snapshot of this statement.
    of_executors = " UNION ALL ".join(
        f"SELECT '{each}' AS open_executor, id, alias, name FROM found_{each}" for each in firsts
    )
    groups = ("open_executor", "alias", "name")
    of_group = " AND ".join(f"found.{column} = best.{column}" for column in groups)
    jobs_of_group = f"""FROM notifications_job
        WHERE id = ANY(ARRAY(SELECT id FROM ({of_executors}) AS found WHERE {of_group}))
            AND {_IS_STILL_QUEUED} AND due_at IS NULL{unexpired}"""
    params += now_params
    first_of_executors = " UNION ALL ".join(
        f"SELECT '{each}' AS open_executor, * FROM ({first}) AS first" for each, first in firsts.items()
    )
    best, select = _lock_first(columns, limit, jobs_of_group, first_of_executors, groups)
    return f"WITH RECURSIVE {', '.join(ctes)}, {best} {select}", params


def limited_running_jobs(limited_queues: Collection[str]) -> Query:
    """Return the query for id, key, queue and task path of the running jobs with a limit."""
    # SQLite would read the table for any queue. Batches run without a worker, and do not count.
    index = dialect().by_index("notifications_job_running")
    of_queues = f" OR queue_name IN ({placeholders(limited_queues)})" if limited_queues else ""
    sql = f"""
        SELECT id, concurrency_key, queue_name, task_path FROM notifications_job{index}
        WHERE state = 'running' AND worker IS NOT NULL AND (concurrency_key <> ''{of_queues})
    """
    return sql, [*limited_queues]


def _first_of_each(source: str, jobs: str) -> str:
    """Return the query for the first jobs of each row of the CTE ``source``.

    ``jobs`` is their FROM and what follows it, which refers to columns of ``source``.
    """
    columns = f"{source}.alias, {source}.name, job.id, job.priority, job.turn"
    return f"SELECT {columns} FROM {source} {dialect().join_each('id, priority, turn', jobs, 'job')}"


def _lock_first(
    columns: str, limit: int, jobs: str, firsts: str, groups: Collection[str], condition: str = "true"
) -> tuple[str, str]:
    """Return a CTE, and the query after it that locks the first jobs over all groups on PostgreSQL.

    The CTE decides without locks how many jobs of each group are among the first, so that no row is locked that is not
    claimed: other workers would skip it.

    ``jobs``
        FROM and WHERE of the jobs of one group, which refers to the columns ``groups`` of ``best``.
    ``firsts``
        The query for the first jobs of each group, without a lock: these columns, priority and place.
    """
    # One subquery for all groups, because each reference to the table of jobs, with its many partial indexes, takes
    # 0.07 ms to plan. With a subquery for each executor planning took 0.63 of the 0.98 ms of a claim, now 0.34 of 0.64.
    # MATERIALIZED: the CTE is evaluated once, and before the query around it.
    names = ", ".join(groups)
    best = f"""best AS MATERIALIZED (
        SELECT {names}, count(*) AS most
        FROM (SELECT {names} FROM ({firsts}) AS firsts WHERE {condition} {_BY_PLACE} {limit}) AS best
        GROUP BY {names}
    )"""
    locked = f"SELECT {columns} {jobs} {_BY_TURN} best.most{lock_sql()}"
    # The outer LIMIT changes no result. It tells the planner of the UPDATE around this query how few rows there are.
    return best, f"SELECT locked.* FROM best, LATERAL ({locked}) AS locked LIMIT {limit}"


def jobs_of_name(index: str = "queued") -> str:
    """Return FROM and WHERE of the queued jobs of a row of ``names``."""
    return f"{queued_jobs(index)} AND backend = alias AND queue_name = name"


def _open_keys(executor: str, closed_keys: Collection[str]) -> list[str]:
    """Return two CTEs: the concurrency keys of the jobs of an executor in the open queues, and those not closed."""
    next_key = (
        f"{jobs_of_name('keyed')} AND due_at IS NULL AND executor = '{executor}' AND concurrency_key > key"
    )
    is_sender = executor in SENDER_EXECUTORS
    # Not by a LIMIT: SQLite would enumerate all keys before.
    has_more = (
        f"key IS NOT NULL AND number < {MAX_SENDER_KEYS + len(closed_keys)}"
        if is_sender
        else "key IS NOT NULL"
    )
    return [
        f"""keys_{executor} (alias, name, key, number) AS (
            SELECT alias, name, CAST('' AS text), 0 FROM open
            UNION ALL
            SELECT alias, name, CAST((SELECT concurrency_key {next_key} ORDER BY concurrency_key LIMIT 1) AS text),
                number + 1
            FROM keys_{executor} WHERE {has_more}
        )""",
        f"""free_{executor} AS (
            SELECT alias, name, key FROM keys_{executor}
            WHERE key <> '' AND key NOT IN ({placeholders(closed_keys)})
        )""",
    ]


def values_of_executors(executors: Collection[str]) -> str:
    values = ", ".join(f"('{executor}')" for executor in executors)
    return f"executors (open_executor) AS (VALUES {values})"
