"""Throughput and durations of the last hour, day or week, from the statistics of jobs: of all, by queue, by task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext_lazy as _

from notifications.contrib.operations.periods import TODAY, read_span
from notifications.contrib.operations.statistics import reading
from notifications.contrib.operations.statistics.points import read_points, read_queues
from notifications.contrib.operations.statistics.reading import Figures
from notifications.contrib.operations.statistics.recording import BOUNDS_SECONDS
from notifications.db import connection, database_now, dialect
from notifications.jobs import JobFilter
from notifications.management import read_moment
from notifications.models import ACTIVE, Job

#: The newest jobs among which the active ones are counted: statistics have only those that have ended.
MAX_ACTIVE_READ = 5_000
#: The points of a chart at least.
MIN_POINTS = 12
#: The tasks that are shown at most: the first in the order that was chosen.
MAX_TASKS = 200
#: What they can be ordered by, the largest first.
ORDERS = {
    "failed": _("Failed"),
    "ended": _("Ended"),
    "busy": _("Total run time"),
    "slow": _("Run time"),
}
DEFAULT_ORDER = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """A period that the page offers, with the number of points of its charts.

    ``time_format`` is how a point's start is written, for the filter ``date``.
    """

    label: Any
    points: int
    time_format: str


PERIODS = {
    "hour": Period(label=_("hour"), points=60, time_format="H:i"),
    "day": Period(label=_("day"), points=24, time_format="H:i"),
    "week": Period(label=_("week"), points=56, time_format="D H:i"),
    TODAY: Period(label=_("today"), points=60, time_format="H:i"),
}
#: From one time to another.
RANGE = Period(label="", points=60, time_format="D H:i")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bucket:
    """Jobs whose times are at most ``until_seconds``, and longer than that of the bucket before; None: any longer time.

    ``wait`` and ``run`` are their number, and how many percent this is of the number in the fullest bucket.
    """

    until_seconds: float | None
    wait: tuple[int, int]
    run: tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The figures of a period: of all jobs, by queue, and for charts, which begin before the first job.

    ``enqueued`` counts active jobs too: it is a lower bound if more than ``MAX_ACTIVE_READ`` jobs were enqueued in the
    period. ``points`` and ``buckets`` are of the jobs of one queue or task, if they were read so.
    """

    totals: Figures
    queues: dict[str, Figures]
    points: list[Figures]
    buckets: list[Bucket]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFigures:
    """The rows in their order. With ``is_cut`` there are more."""

    rows: list[Figures]
    is_cut: bool


def read_history(
    period: str, now: datetime, *, queue: str = "", task: str = "", with_deliveries: bool = False
) -> History:
    """Return the figures of a period (see ``read_span``), in three queries, or four for a task.

    ``queue``, ``task``
        The points are of this queue and task only.
    ``with_deliveries``
        See ``figures.read_figures``.
    """
    since, until = read_span(period, now)
    now = until or now
    length, count = now - since, PERIODS.get(period, RANGE).points
    without = not with_deliveries
    by_queue = read_queues(length, count, now=now, without_deliveries=without)
    points = read_points(
        length, count, queue=queue or None, task=task or None, now=now, without_deliveries=without
    )
    start = min((point.start for point in points if point.start), default=since)
    condition = "" if with_deliveries else f" AND {JobFilter.project_sql()}"
    active = _read_active(start, condition)
    for name in active:
        by_queue.setdefault(name, Figures(queue=name, start=start, seconds=length.total_seconds()))
    totals = _sum(by_queue.values())
    totals.seconds = sum(point.seconds for point in points)
    totals.enqueued += _count(active, start, now)
    for name, figures in by_queue.items():
        figures.enqueued += _count({name: active.get(name, [])}, figures.start or start, now)
    if task:
        active = _read_active(start, task=task)
    active = {name: minutes for name, minutes in active.items() if queue in ("", name)}
    buckets = buckets_of(_sum(points))
    for point in points:
        begin = point.start or start
        point.enqueued += _count(active, begin, begin + timedelta(seconds=max(point.seconds, 1)))
    return History(totals=totals, queues=by_queue, points=without_empty_begin(points), buckets=buckets)


def without_empty_begin(points: list[Figures]) -> list[Figures]:
    """Return the points from the last one before the first job on, at least ``MIN_POINTS``; all without a job."""
    first = next((n for n, point in enumerate(points) if point.has_jobs), 0)
    return points[max(0, min(first - 1, len(points) - MIN_POINTS)) :]


def _read_active(
    since: datetime, condition: str = "", *, task: str = ""
) -> dict[str, list[tuple[datetime, int]]]:
    """Return, by queue, the minutes since a time in which active jobs were queued, each with their number.

    ``condition``, ``task``
        Counts the jobs that meet this one, and those of this task, only.
    """
    db = connection()
    # Jobs that were created before the time and queued again are not found here.
    minute = dialect().minute_of("queued_at")
    active = ", ".join(f"'{state}'" for state in ACTIVE)
    sql = f"""
        SELECT queue_name, {minute}, count(*) FROM (
            SELECT queue_name, queued_at, state, task_path FROM notifications_job WHERE created_at >= %s
            ORDER BY created_at DESC, id DESC LIMIT {MAX_ACTIVE_READ}
        ) AS newest WHERE state IN ({active}) AND queued_at >= %s
        {"AND task_path = %s" if task else ""}{condition} GROUP BY 1, 2
    """
    found: dict[str, list[tuple[datetime, int]]] = {}
    with db.cursor() as cursor:
        moment_param = Job._meta.get_field("created_at").get_db_prep_value(since, db)
        cursor.execute(sql, [*[moment_param] * 2, *([task] if task else [])])
        for name, text, count in cursor.fetchall():
            if moment := read_moment(text):
                found.setdefault(name, []).append((moment, count))
    return found


def _count(active: dict[str, list[tuple[datetime, int]]], start: datetime, end: datetime) -> int:
    return sum(count for minutes in active.values() for moment, count in minutes if start <= moment < end)


def _sum(points: Iterable[Figures]) -> Figures:
    total = Figures()
    for point in points:
        total.seconds += point.seconds
        for name in ("enqueued", "succeeded", "failed", "cancelled"):
            setattr(total, name, getattr(total, name) + getattr(point, name))
        total.wait.add(point.wait)
        total.run.add(point.run)
    return total


def buckets_of(figures: Figures) -> list[Bucket]:
    """Return the buckets of both histograms from the first to the last one that has a time."""
    wait, run = (
        [(count, -(-100 * count // (max(times_of.counts) or 1))) for count in times_of.counts]
        for times_of in (figures.wait, figures.run)
    )
    buckets = [
        Bucket(until_seconds=until, wait=waits, run=runs)
        for until, waits, runs in zip((*BOUNDS_SECONDS, None), wait, run, strict=True)
    ]
    filled = [number for number, bucket in enumerate(buckets) if bucket.wait[0] or bucket.run[0]]
    return buckets[filled[0] : filled[-1] + 1] if filled else []


def read_tasks(period: str, order: str, *, with_deliveries: bool = False) -> TaskFigures:
    """Return the figures of the tasks of which jobs ended in a period (see ``read_span``), in one query."""
    now = database_now(is_estimate=True)
    since, until = read_span(period, now)
    end = until or now
    found = reading.read_figures(end - since, by_task=True, now=end, without_deliveries=not with_deliveries)
    rows = sorted(found, key=lambda row: (-_order_value(row, order), -row.ended, row.task, row.queue))
    return TaskFigures(rows=rows[:MAX_TASKS], is_cut=len(rows) > MAX_TASKS)


def _order_value(row: Figures, order: str) -> float:
    values: dict[str, Any] = {
        "failed": row.failed,
        "ended": row.ended,
        "busy": row.run.total_seconds,
        "slow": row.run.p95 or 0,
    }
    return float(values[order])
