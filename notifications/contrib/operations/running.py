"""Running jobs of each queue, and suspended ones, as the overview, alerts and metrics show them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from notifications.db import connection
from notifications.jobs import JobFilter
from notifications.management import read_moment

#: The running jobs that are read at most, and the waiting ones that are counted.
MAX_RUNNING_READ = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningJobs:
    """The running jobs of one queue.

    ``oldest_since`` is when the first of them was started. ``first_deadline`` is the first time at which one is taken
    away from its worker, ``DEADLINE_MARGIN_SECONDS`` after its timeout.
    """

    count: int
    oldest_since: datetime | None
    first_deadline: datetime | None


def read_running(*, without_deliveries: bool = False) -> dict[str, RunningJobs]:
    """Return the running jobs of each queue. Batches are not counted.

    ``without_deliveries``
        Without the jobs that ``JobFilter(deliveries="hidden")`` leaves out.
    """
    condition = f"WHERE {JobFilter.project_sql()}" if without_deliveries else ""
    with connection().cursor() as cursor:
        cursor.execute(
            "SELECT queue_name, count(*), min(started_at), min(deadline) FROM ("
            "SELECT queue_name, task_path, started_at, deadline FROM notifications_job "
            f"WHERE state = 'running' AND worker IS NOT NULL LIMIT {MAX_RUNNING_READ}) AS running {condition} "
            "GROUP BY queue_name"
        )
        return {
            name: RunningJobs(
                count=count,
                oldest_since=read_moment(since),
                first_deadline=read_moment(deadline),
            )
            for name, count, since, deadline in cursor.fetchall()
        }


def count_waiting() -> dict[str, int]:
    """Return the number of jobs of each queue that wait, suspended, of at most ``MAX_RUNNING_READ``."""
    with connection().cursor() as cursor:
        cursor.execute(
            "SELECT queue_name, count(*) FROM (SELECT queue_name FROM notifications_job "
            f"WHERE state = 'waiting' LIMIT {MAX_RUNNING_READ}) AS waiting GROUP BY queue_name"
        )
        return dict(cursor.fetchall())
