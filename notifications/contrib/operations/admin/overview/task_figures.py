"""The figures of each task in each queue, from the statistics of jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from notifications.contrib.operations.admin.overview.history import PERIODS, Durations, durations_of
from notifications.contrib.operations.statistics import reading
from notifications.db.clock import estimated_database_now

#: The rows that are shown at most: the first in the order that was chosen.
MAX_TASKS = 200
#: What the rows can be ordered by, the largest first.
ORDERS = {
    "failed": _("Failed"),
    "ended": _("Ended"),
    "busy": _("Total run time"),
    "slow": _("Run time"),
}
DEFAULT_ORDER = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRow:
    """A task in a queue. ``failed_percent`` is that of jobs that succeeded or failed; None without such jobs."""

    task: str
    queue: str
    ended: int
    failed: int
    failed_percent: float | None
    retried: int
    timed_out: int
    lost: int
    wait: Durations
    run: Durations
    busy_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFigures:
    """The rows in their order. With ``is_cut`` there are more."""

    rows: list[TaskRow]
    is_cut: bool


def read_tasks(period: str, order: str) -> TaskFigures:
    """Return the figures of the tasks of which jobs ended in one of ``PERIODS``, in one query."""
    found = reading.read_figures(PERIODS[period].length, by_task=True, now=estimated_database_now())
    rows = sorted(map(_row, found), key=lambda row: (-_value(row, order), -row.ended, row.task, row.queue))
    return TaskFigures(rows=rows[:MAX_TASKS], is_cut=len(rows) > MAX_TASKS)


def _value(row: TaskRow, order: str) -> float:
    values: dict[str, Any] = {
        "failed": row.failed,
        "ended": row.ended,
        "busy": row.busy_seconds,
        "slow": row.run.p95 or 0,
    }
    return float(values[order])


def _row(figures: reading.Figures) -> TaskRow:
    rate = figures.failure_rate
    return TaskRow(
        task=figures.task,
        queue=figures.queue,
        ended=figures.ended,
        failed=figures.failed,
        failed_percent=None if rate is None else 100 * rate,
        retried=figures.retried,
        timed_out=figures.timed_out,
        lost=figures.lost,
        wait=durations_of(figures.wait),
        run=durations_of(figures.run),
        busy_seconds=figures.run.total_seconds,
    )
