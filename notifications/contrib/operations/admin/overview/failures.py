"""Failed jobs, grouped by task, exception and location."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.utils import formats
from django.utils.translation import ngettext

from notifications import times
from notifications.contrib.operations.incidents.reading import count_not_notified, read_incidents
from notifications.contrib.operations.incidents.recording import key_of
from notifications.contrib.operations.incidents.texts import describe_over, format_since
from notifications.contrib.operations.models import Incident
from notifications.db import connection, dialect
from notifications.extension import hooks
from notifications.jobs import JobFilter
from notifications.management import read_moment
from notifications.models import Job
from notifications.validators import shortened

#: The failed jobs that are grouped, and counted before a retry, at most: the latest.
MAX_FAILED_READ = 10_000
#: The groups that are shown: the largest.
MAX_GROUPS = 20
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
    """Failed jobs of one task with the same exception at the same location, and their last incident, if it is known.

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
    incident: Incident | None = None
    #: How many users the last broadcast about it was sent to, and how many have read it.
    sent: int = 0
    read: int = 0
    #: How many affected users were recorded since they were notified: ``count_not_notified()``.
    not_notified: int = 0

    @property
    def failure(self) -> str:
        """The condition of the list of jobs that shows those of the group."""
        return f"{self.exception} {self.location}"

    @property
    def key(self) -> str:
        return key_of(self.task_path, self.exception, self.location)

    @property
    def begun_at(self) -> datetime | None:
        """When the first job failed so, whatever time is shown, and however many of them were retried."""
        return self.incident.begun_at if self.incident else self.first_at

    @property
    def since(self) -> str:
        """Return that time in words."""
        return format_since(self.begun_at, times.now()) if self.begun_at else ""

    @property
    def over(self) -> str:
        """Return since when it is over, and how long it lasted; "" while it is not."""
        incident = self.incident
        if incident is None or incident.over_at is None:
            return ""
        return describe_over(incident.begun_at, incident.over_at, times.now())

    @property
    def notified(self) -> str:
        """Return when, by whom and how many of the affected users were notified, "" if none was."""
        incident = self.incident
        if incident is None or incident.notified_at is None:
            return ""
        text = ngettext(
            "Told at %(time)s by %(name)s, %(sent)s person, %(read)s read",
            "Told at %(time)s by %(name)s, %(sent)s people, %(read)s read",
            self.sent,
        )
        return text % {
            "time": format_since(incident.notified_at, times.now()),
            "name": incident.notified_by,
            "sent": formats.number_format(self.sent, force_grouping=True),
            "read": formats.number_format(self.read, force_grouping=True),
        }

    @property
    def can_announce_end(self) -> bool:
        """Whether it is over, and those who know of it do not know that."""
        incident = self.incident
        return bool(incident and incident.over_at and incident.notified_users and not incident.end_broadcast)

    @classmethod
    def of(cls, incident: Incident, *, with_messages: bool) -> FailureGroup:
        """Return the group of an incident of which no job is failed any more."""
        return cls(
            task_path=incident.task_path,
            exception=incident.exception_class_path,
            location=incident.location,
            message=incident.host if with_messages else "",
            count=0,
            owners=0,
            first_at=incident.begun_at,
            last_at=incident.failed_at,
            incident=incident,
        )


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

    def with_incidents(
        self, since: datetime, until: datetime | None, *, with_deliveries: bool, with_messages: bool
    ) -> Failures:
        """Return the same with their incidents, and with those of which no job is failed any more."""
        incidents = read_incidents(
            [group.key for group in self.groups], since, until, with_deliveries=with_deliveries
        )
        groups = [replace(group, incident=incidents.pop(group.key, None)) for group in self.groups]
        gone = sorted(incidents.values(), key=lambda incident: incident.failed_at, reverse=True)
        shown = gone[: max(MAX_GROUPS - len(groups), 0)]
        groups += [FailureGroup.of(incident, with_messages=with_messages) for incident in shown]
        counts = count_not_notified(group.incident for group in groups if group.incident)
        groups = [
            replace(group, not_notified=counts.get(group.incident.pk, 0)) if group.incident else group
            for group in groups
        ]
        ids = [group.incident.broadcast for group in groups if group.incident and group.incident.broadcast]
        found: dict[Any, Any] = {}
        for describe in hooks.functions_of("operations", "describe_broadcasts") if ids else ():
            found |= describe(ids)
        groups = [
            replace(group, **found[group.incident.broadcast])
            if group.incident and group.incident.broadcast in found
            else group
            for group in groups
        ]
        return replace(self, groups=groups)


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
