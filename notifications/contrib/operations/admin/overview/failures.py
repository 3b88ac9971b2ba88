"""Failed jobs, grouped by task, exception and location."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from notifications.db import connection, dialect, user_from_db
from notifications.jobs import JobFilter
from notifications.management import read_moment
from notifications.models import Job
from notifications.validators import shortened

#: The failed jobs that are grouped, and counted before a retry, at most: the latest.
MAX_FAILED_READ = 10_000
#: The groups that are shown: the largest.
MAX_GROUPS = 20
#: The owners of failed jobs who are named to whom writes to them, at most. Their names are in an address.
MAX_OWNERS = 300
#: Characters of the end of a traceback, in which the message of the exception is searched, and of what is shown of it.
MAX_END_LENGTH, MAX_MESSAGE_LENGTH = 2_000, 200
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

    ``exception``, ``location`` and ``message``, that of one of them, are "" where the task raised nothing, as when its
    worker was lost; ``message`` also if it was not read. ``owners`` is how many users they are of.
    """

    task_path: str
    exception: str
    location: str
    message: str
    count: int
    owners: int
    first_at: datetime | None
    last_at: datetime | None

    @property
    def failure(self) -> str:
        """The condition of the list of jobs that shows those of the group."""
        return f"{self.exception} {self.location}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failures:
    """The largest groups, out of ``count`` failed jobs. With ``is_capped`` more jobs have failed than were read.

    ``has_several``
        Whether there are several groups, also if only one of them is shown.
    """

    groups: list[FailureGroup]
    count: int
    is_capped: bool
    has_several: bool


def read_failures(
    since: datetime,
    until: datetime | None = None,
    *,
    with_deliveries: bool = False,
    with_messages: bool = False,
) -> Failures:
    """Return the jobs that failed since a time, or between two, and were not retried, grouped, in one query.

    ``with_deliveries``
        Whether the jobs are there that ``JobFilter(deliveries="hidden")`` leaves out, here and below.
    ``with_messages``
        Whether the messages of exceptions are read, which are parts of tracebacks.
    """
    any_job, job = dialect().any_id("id"), dialect().id_from("job")
    end = dialect().last_characters("traceback", MAX_END_LENGTH)
    message = f"SELECT {end} FROM notifications_attempt WHERE job_id = {job} ORDER BY number DESC LIMIT 1"
    shown = f"CASE WHEN place <= {MAX_GROUPS} THEN coalesce(({message}), '') ELSE '' END"
    sql = f"""
        SELECT task_path, exception, location, jobs, owners, first_at, last_at, {shown if with_messages else "''"},
            EXISTS ({_failed_jobs(1, until, with_deliveries)} OFFSET {MAX_FAILED_READ})
        FROM (
            SELECT task_path, coalesce(exception_class_path, '') AS exception, coalesce(location, '') AS location,
                count(*) AS jobs, count(DISTINCT user_id) AS owners, {any_job} AS job, min(finished_at) AS first_at,
                max(finished_at) AS last_at, row_number() OVER (ORDER BY count(*) DESC, 1, 2, 3) AS place
            FROM ({_failed_jobs(MAX_FAILED_READ, until, with_deliveries)}) AS failed {_JOIN_ATTEMPT}
            GROUP BY 1, 2, 3
        ) AS failures
        ORDER BY jobs DESC, task_path, exception, location
    """
    with connection().cursor() as cursor:
        cursor.execute(sql, _bounds(since, until) * 2)
        rows = cursor.fetchall()
    groups = [
        FailureGroup(
            task_path=task_path,
            exception=exception,
            location=location,
            message=_read_message(end),
            count=count,
            owners=owners,
            first_at=read_moment(first_at),
            last_at=read_moment(last_at),
        )
        for task_path, exception, location, count, owners, first_at, last_at, end, _ in rows
    ]
    return Failures(
        groups=groups[:MAX_GROUPS],
        count=sum(group.count for group in groups),
        is_capped=any(has_more for *_, has_more in rows),
        has_several=len(groups) > 1,
    )


def count_jobs(
    since: datetime,
    group: Mapping[str, str],
    until: datetime | None = None,
    *,
    with_deliveries: bool = False,
) -> tuple[int, bool]:
    """Return how many jobs can be retried, and whether there may be more. At most ``MAX_FAILED_READ`` are counted.

    ``group``
        The values of ``COLUMNS``; empty for the jobs of all groups.
    """
    conditions = _are_of_group(group) or ["1 = 1"]
    sql = f"""
        SELECT count(*), count(CASE WHEN {" AND ".join(conditions)} THEN 1 END)
        FROM ({_failed_jobs(MAX_FAILED_READ + 1, until, with_deliveries)}) AS failed {_JOIN_ATTEMPT}
    """
    with connection().cursor() as cursor:
        cursor.execute(sql, [*group.values(), *_bounds(since, until)])
        read, count = cursor.fetchone()
    return min(count, MAX_FAILED_READ), read > MAX_FAILED_READ


def read_owners(
    since: datetime,
    group: Mapping[str, str],
    until: datetime | None = None,
    *,
    with_deliveries: bool = False,
) -> list[Any]:
    """Return the keys of the users of whom are the failed jobs of a group, ``MAX_OWNERS`` at most."""
    conditions = ["user_id IS NOT NULL", *_are_of_group(group)]
    sql = f"""
        SELECT DISTINCT user_id FROM ({_failed_jobs(MAX_FAILED_READ, until, with_deliveries)}) AS failed
        {_JOIN_ATTEMPT}
        WHERE {" AND ".join(conditions)} ORDER BY 1 LIMIT {MAX_OWNERS}
    """
    with connection().cursor() as cursor:
        cursor.execute(sql, [*_bounds(since, until), *group.values()])
        return [user_from_db(key) for (key,) in cursor.fetchall()]


def _read_message(end_of_traceback: str) -> str:
    """Return what the last line of a traceback says after the class of the exception, if that is not cut off."""
    line = end_of_traceback.strip().rpartition("\n")[2]
    name, _, message = line.partition(": ")
    return shortened(line if " " in name else message, MAX_MESSAGE_LENGTH)


def _are_of_group(group: Mapping[str, str]) -> list[str]:
    return [f"coalesce({COLUMNS[name]}, '') = %s" for name in group]


def _failed_jobs(limit: int, until: datetime | None, with_deliveries: bool) -> str:
    by_index = dialect().by_index("notifications_job_failed")
    end = " AND finished_at <= %s" if until else ""
    condition = "" if with_deliveries else f" AND {JobFilter.project_sql()}"
    return (
        f"SELECT id, user_id, task_path, attempt, finished_at FROM notifications_job{by_index} "
        f"WHERE state = 'failed' AND finished_at >= %s{end}{condition} ORDER BY finished_at DESC LIMIT {limit}"
    )


def _bounds(since: datetime, until: datetime | None) -> list[Any]:
    finished_at = Job._meta.get_field("finished_at")
    return [finished_at.get_db_prep_value(moment, connection()) for moment in (since, until) if moment]
