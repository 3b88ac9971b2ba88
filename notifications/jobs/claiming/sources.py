"""Of which backends and queues a worker claims jobs, and the SQL that lists them.

The backend is the first column of the indexes of queued jobs. With two engines and the built-in worker on one database,
and 10,000 queued jobs of each, a claim reads 13 to 17 rows on PostgreSQL; without the column it read 10,000 to 180,000.
A stored class of runner in place of it would have to be changed in each row when ``TASKS`` changes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from notifications import times
from notifications.db.transactions import connection, dialect
from notifications.jobs.declaring.tasks import aliases_with_engines

#: A query and its parameters.
Query = tuple[str, list[Any]]
#: The alias of a backend, and the name of a queue.
BackendQueue = tuple[str, str]

#: SQL for since when a job waits in the queue: from when it was queued, or due.
WAITS_SINCE = "CASE WHEN run_after > queued_at THEN run_after ELSE queued_at END"

#: How each index of queued jobs spells that a job is queued: see ``claim_queries.py``.
_IS_QUEUED = {"queued": "'queued%%'", "keyed": "'%%queued'", "share": "'%%queued%%'"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Of which backends and queues jobs are claimed.

    ``backends``
        Aliases; all if empty, also those that ``TASKS`` has no more.
    ``excluded``
        Aliases that are left out of all.
    ``queues``
        Names; all if empty.
    """

    backends: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()


def builtin_source(queues: Collection[str] = ()) -> Source:
    """Return what the built-in worker claims: the jobs of all backends that have no engine."""
    return Source(excluded=aliases_with_engines(), queues=tuple(dict.fromkeys(queues)))


def names_of(source: Source) -> Query:
    """Return the CTE ``names (alias, name)``, of the backends and queues of a source that have jobs, or are given."""
    if source.backends and source.queues:
        return values_of_names([(alias, name) for alias in source.backends for name in source.queues])
    # One list of both, not one of backends and then one of the queues of each: PostgreSQL estimates a hundred rows for
    # each recursion, and would compile a query with ten thousand for 2 s.
    columns = "CAST(backend AS text), CAST(queue_name AS text)"
    order = "ORDER BY backend, queue_name LIMIT 1"
    step = dialect().following_queue(queued_jobs())
    conditions = [
        f"{column} {operator} ({placeholders(values)})"
        for column, operator, values in (
            ("alias", "IN", source.backends),
            ("alias", "NOT IN", source.excluded),
            ("name", "IN", source.queues),
        )
        if values
    ]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    sql = f"""pairs (alias, name) AS (
            SELECT * FROM (SELECT {columns} {queued_jobs()} {order}) AS first UNION ALL {step}
        ), names AS (SELECT alias, name FROM pairs{where})"""
    return sql, [*source.backends, *source.excluded, *source.queues]


def values_of_names(names: Collection[BackendQueue]) -> Query:
    """Return the CTE ``names (alias, name)`` of given backends and queues."""
    values = ", ".join(["(%s, %s)"] * len(names))
    return f"names (alias, name) AS (VALUES {values})", [part for name in names for part in name]


def queued_jobs(index: str = "queued") -> str:
    """Return FROM and WHERE of queued jobs as the index "queued", "keyed" or "share" spells it."""
    return dialect().rows_like("notifications_job", f"notifications_job_{index}", "state", _IS_QUEUED[index])


#: That a job of ``limited_jobs()`` waits. With IS NOT NULL PostgreSQL may read all of the index "scheduled".
WAITS_FOR_LIMIT = "CASE WHEN due_at IS NULL THEN 0 ELSE 1 END = 1"


def limited_jobs() -> str:
    """Return FROM and WHERE of queued jobs that wait, or have waited, for the limit of a key."""
    by_index = dialect().by_index("notifications_job_limited")
    return f"FROM notifications_job{by_index} WHERE state = 'queued' AND limit_turn IS NOT NULL"


def placeholders(values: Collection[str]) -> str:
    """Return what stands in SQL for values that are parameters."""
    return ", ".join(["%s"] * len(values))


def read_moment(value: Any) -> datetime | None:
    """Return a time that raw SQL has read: SQLite returns text."""
    if value is None:
        return None
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return times.from_db(moment, connection())
