"""Failed jobs, grouped by task, exception and location."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from notifications import times
from notifications.contrib.operations.matching import failed_jobs_sql, failure_of
from notifications.db.transactions import connection
from notifications.jobs.claiming.backlog import read_moment

#: The failed jobs that are grouped, and counted before a retry, at most: the latest.
MAX_FAILED_READ = 2_000
#: The groups that are shown: the largest.
MAX_GROUPS = 20
#: What the jobs of a group have in common, and the columns.
COLUMNS = {"task_path": "task_path", "exception": "exception_class_path", "location": "location"}
#: The attempt that ended the job.
_JOIN_ATTEMPT = """
    LEFT JOIN (SELECT job_id, number, exception_class_path, location FROM notifications_attempt) AS ended
    ON ended.job_id = failed.id AND ended.number = failed.attempt
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureGroup:
    """Failed jobs of one task with the same exception at the same location.

    ``exception`` and ``location`` are "" where the task raised nothing, as when its worker was lost. ``retryable`` is
    how many of them this app can run again: not executions of Celery tasks.
    """

    task_path: str
    exception: str
    location: str
    count: int
    retryable: int
    first_at: datetime | None
    last_at: datetime | None

    @property
    def failure(self) -> str:
        """The condition of the list of jobs that shows those of the group."""
        return failure_of(self.exception, self.location)


@dataclass(frozen=True, kw_only=True, slots=True)
class Failures:
    """The largest groups, out of ``count`` failed jobs. With ``is_capped`` more jobs have failed than were read.

    ``is_retryable``
        Whether jobs of several groups can be retried, also of groups that are not among these.
    """

    groups: list[FailureGroup]
    count: int
    is_capped: bool
    is_retryable: bool


def read_failures(since: datetime) -> Failures:
    """Return the jobs that failed since a time and were not retried, grouped, in one query."""
    sql = f"""
        SELECT task_path, coalesce(exception_class_path, ''), coalesce(location, ''),
            count(*), count(CASE WHEN executor <> 'observed' THEN 1 END), min(finished_at), max(finished_at),
            EXISTS ({failed_jobs_sql("1", 1)} OFFSET {MAX_FAILED_READ})
        FROM ({_failed_jobs(MAX_FAILED_READ)}) AS failed {_JOIN_ATTEMPT}
        GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3
    """
    with connection().cursor() as cursor:
        cursor.execute(sql, [times.to_db(since, connection())] * 2)
        rows = cursor.fetchall()
    groups = [
        FailureGroup(
            task_path=task_path,
            exception=exception,
            location=location,
            count=count,
            retryable=retryable,
            first_at=read_moment(first_at),
            last_at=read_moment(last_at),
        )
        for task_path, exception, location, count, retryable, first_at, last_at, _ in rows
    ]
    return Failures(
        groups=groups[:MAX_GROUPS],
        count=sum(group.count for group in groups),
        is_capped=any(has_more for *_, has_more in rows),
        is_retryable=sum(group.retryable > 0 for group in groups) > 1,
    )


def count_jobs(since: datetime, group: Mapping[str, str]) -> tuple[int, bool]:
    """Return how many jobs can be retried, and whether there may be more. At most ``MAX_FAILED_READ`` are counted.

    ``group``
        The values of ``COLUMNS``; empty for the jobs of all groups.
    """
    conditions = ["executor <> 'observed'", *(f"coalesce({COLUMNS[name]}, '') = %s" for name in group)]
    sql = f"""
        SELECT count(*), count(CASE WHEN {" AND ".join(conditions)} THEN 1 END)
        FROM ({_failed_jobs(MAX_FAILED_READ + 1)}) AS failed {_JOIN_ATTEMPT}
    """
    with connection().cursor() as cursor:
        cursor.execute(sql, [*group.values(), times.to_db(since, connection())])
        read, count = cursor.fetchone()
    return min(count, MAX_FAILED_READ), read > MAX_FAILED_READ


def _failed_jobs(limit: int) -> str:
    return failed_jobs_sql("id, task_path, executor, attempt, finished_at", limit)
