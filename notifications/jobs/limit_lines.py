"""Jobs that wait for the limit of a key: which queues have some, and their order.

Those of one backend, queue and key stand in a line of their own, by priority and ``limit_turn``, whether they wait or
have joined the queue to be claimed. A line has the order of ``jobs/turns.py``: what a share has in it stands in a row,
and a share that joins it stands beside the first ones of the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from notifications.db.transactions import chunks, connection, database, dialect
from notifications.jobs.claiming.sources import WAITS_FOR_LIMIT, limited_jobs
from notifications.jobs.turns import MAX_SHARES_PER_QUERY, share_of
from notifications.models import Job, LimitedQueue


class LimitLine(NamedTuple):
    """The jobs of a queue with a key that an extension limits."""

    backend: str
    queue_name: str
    key: str

    @staticmethod
    def count_waiting(keys: Iterable[str], limit: int) -> dict[str, int]:
        """Return how many jobs wait for the limit of each of these keys, at most ``limit`` in each queue."""
        counts = dict.fromkeys(keys, 0)
        waiting = jobs_in_line("line.backend", "line.queue_name", "line.key") + f" AND {WAITS_FOR_LIMIT}"
        for chunk in chunks(counts):
            with connection().cursor() as cursor:
                cursor.execute(
                    f"SELECT key, (SELECT count(*) FROM (SELECT 1 {waiting} LIMIT {limit}) AS counted) "
                    f"FROM notifications_limitedqueue AS line WHERE key IN ({', '.join(['%s'] * len(chunk))})",
                    chunk,
                )
                for key, count in cursor.fetchall():
                    counts[key] += count
        return counts

    @staticmethod
    def count_before(job: Job, limit: int) -> int:
        """Return how many jobs stand before a job in its line, at most ``limit``."""
        with connection().cursor() as cursor:
            cursor.execute(
                f"SELECT id {jobs_in_line('%s', '%s', '%s')} {IN_TURN} LIMIT {limit}", line_of(job)
            )
            ids = [Job._meta.pk.to_python(id) for (id,) in cursor.fetchall()]
        return next((index for index, id in enumerate(ids) if id == job.id), limit)


def line_of(job: Any) -> LimitLine:
    """Return the line in which a job with a key waits for its limit."""
    return LimitLine(job.backend, job.queue_name, job.limit_key)


def jobs_in_line(backend: str, queue: str, key: str) -> str:
    """Return FROM and WHERE of the queued jobs of a line, in SQL for each of its columns, by the index "limited"."""
    return f"{limited_jobs()} AND backend = {backend} AND queue_name = {queue} AND limit_key = {key}"


IN_TURN = "ORDER BY priority DESC, limit_turn, id"


def read_lines(keys: Collection[str]) -> set[LimitLine]:
    """Return the lines of these keys in which jobs wait."""
    rows = LimitedQueue.objects.using(database()).order_by()
    return {
        LimitLine(*values)
        for chunk in chunks(sorted(keys))
        for values in rows.filter(key__in=chunk).values_list("backend", "queue_name", "key")
    }


def next_turns(jobs: Sequence[Job]) -> list[int]:
    """Return the turns of jobs that join their lines now, in this order, in one query for 100 shares."""
    keys = [(line_of(job), job.priority, share_of(job)) for job in jobs]
    last = _read_last(set(keys)) if keys else {}
    turns = []
    for key in keys:
        last[key] += 1
        turns.append(last[key])
    return turns


def _read_last(keys: Collection[tuple[LimitLine, int, str]]) -> dict[tuple[LimitLine, int, str], int]:
    """Return the last turn of each share in its line, or else that before the first one of the line."""
    found = {}
    of_line = jobs_in_line("alias", "queue", "of_key") + " AND priority = level"
    of_share = of_line.replace("_job_limited", "_job_limit_share") + " AND share_name = of_share"
    first = f"(SELECT limit_turn {of_line} ORDER BY limit_turn, id LIMIT 1) - 1"
    last = f"(SELECT limit_turn {of_share} ORDER BY limit_turn DESC LIMIT 1)"
    turn = dialect().greatest(f"coalesce({first}, 0)", f"coalesce({last}, 0)")
    for chunk in chunks(sorted(keys), MAX_SHARES_PER_QUERY):
        values = ", ".join(["(%s, %s, %s, CAST(%s AS smallint), %s)"] * len(chunk))
        with connection().cursor() as cursor:
            cursor.execute(
                f"WITH keys (alias, queue, of_key, level, of_share) AS (VALUES {values}) SELECT alias, queue, of_key, "
                f"level, of_share, {turn} FROM keys",
                [value for line, level, share in chunk for value in (*line, level, share)],
            )
            for alias, queue, key, level, share, turn in cursor.fetchall():
                found[LimitLine(alias, queue, key), level, share] = turn
    return found
