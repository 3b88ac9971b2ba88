"""Read the points of charts from the statistics of jobs: figures of equal steps of a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from notifications import times
from notifications.contrib.operations.models import BUCKET_COLUMNS, BUCKET_COUNT, HISTOGRAMS
from notifications.contrib.operations.statistics.reading import (
    ENDS,
    Figures,
    Histogram,
    by_index_of_new_rows,
    first_start,
    moment_of,
    period_of,
    read_sums,
    rolled_up_rows,
)
from notifications.contrib.operations.statistics.recording import TABLE
from notifications.contrib.operations.statistics.roll_up import PERIOD_SECONDS
from notifications.db.transactions import connection

#: Columns of which the rows of ends are summed, besides a count of each end.
_COLUMNS = (
    *("enqueued", "wait_microseconds", "run_microseconds"),
    *(column for name in HISTOGRAMS for column in BUCKET_COLUMNS[name]),
)
_IS_END = f"outcome IN ({', '.join(repr(str(end)) for end in ENDS)})"
_COUNTS = ", ".join(f"sum(CASE WHEN outcome = '{end}' THEN count END)" for end in ENDS)
_SUMS = f"{_COUNTS}, {', '.join(f'sum({column})' for column in _COLUMNS)}"


def read_points(
    window: timedelta,
    points: int = 60,
    *,
    queue: str | None = None,
    task: str | None = None,
    now: datetime | None = None,
) -> list[Figures]:
    """Return at most ``points`` figures for a chart of the last ``window``: equal steps of time, oldest first.

    Each is the sum of all queues and tasks, or of ``queue`` and ``task``. Steps in which nothing ended are there too.
    A step is a multiple of a minute, an hour or a day: see ``read_figures``. The last one lasts until ``now``, and
    the first one may begin up to a step before or after the window. One query.
    """
    now = now or times.now()
    steps = _Steps.of(window, points, now)
    figures = steps.make_figures(now, queue=queue or "", task=task or "")
    for row in read_sums(steps.period, steps.since, now, (), queue=queue, task=task, step=steps.seconds):
        if 0 <= row.step < steps.count:
            figures[row.step].add(row)
    return figures


def read_queues_and_points(
    window: timedelta, points: int = 60, *, now: datetime | None = None
) -> tuple[dict[str, Figures], list[Figures]]:
    """Return the figures of each queue, by name, and those for a chart of all: see ``read_points``. One query.

    Both are of the same time, the steps of the chart.
    """
    now = now or times.now()
    steps = _Steps.of(window, points, now)
    figures = steps.make_figures(now)
    queues: dict[str, Figures] = {}
    with connection().cursor() as cursor:
        cursor.execute(_query_of_queues_and_points(steps, int(now.timestamp())))
        found = cursor.fetchall()
    for name, start, attempts, *values in sorted(found, key=lambda row: row[0] or ""):
        parts = []
        if name is not None:
            parts.append(queues.setdefault(name, steps.make_queue(name, now)))
        if start is not None:
            parts.append(figures[(start - steps.since) // steps.seconds])
        for part in parts:
            if attempts:
                setattr(part, attempts, getattr(part, attempts) + int(values[0]))
            else:
                _add_ends(part, values)
    return queues, figures


def read_queues(window: timedelta, points: int = 60, *, now: datetime | None = None) -> dict[str, Figures]:
    """Return the figures of each queue of ``read_queues_and_points``, without those of a chart of all. One query.

    The points of a week are summed from all its rows of hours, which takes three times as long as the queues.
    """
    now = now or times.now()
    steps = _Steps.of(window, points, now)
    queues: dict[str, Figures] = {}
    sums = read_sums(steps.period, steps.since, now, ("queue_name",))
    for row in sorted(sums, key=lambda row: row.queue):  # PostgreSQL returns groups in any order.
        queues.setdefault(row.queue, steps.make_queue(row.queue, now)).add(row)
    return queues


def _query_of_queues_and_points(steps: _Steps, until: int) -> str:
    """Return the query, all parts of which see one snapshot. Its rows are queue, start, outcome, and sums.

    The queue or the start is NULL in sums over all of them. The outcome is that of attempts, whose one sum is their
    number, or "" in sums of ends. A sum over all queues is in the order of the index. To group a week by queue, step
    and outcome took twice as long, because the database sorted rows of 60 columns. And the sums of a queue are those of
    few longer periods, and of what is left at both ends of the time.
    """
    until = min(until, steps.since + steps.count * steps.seconds - 1)
    columns = ", ".join(("queue_name", "outcome", "count", *_COLUMNS))
    of_queues = " UNION ALL ".join(
        f"SELECT {columns} FROM {source} AND {_IS_END}"
        for source in rolled_up_rows(steps.period, steps.since, until)
    )
    (of_steps,) = rolled_up_rows(steps.period, steps.since, until, has_longer=False)
    new = f"{TABLE}{by_index_of_new_rows()} WHERE shard > 0 AND start BETWEEN {steps.since} AND {until}"
    counted = f"sum(count){', NULL' * (len(_COLUMNS) + len(ENDS) - 1)}"
    attempts = f"NOT ({_IS_END}) GROUP BY queue_name, start, outcome"
    return " UNION ALL ".join(
        (
            f"SELECT NULL, start, '', {_SUMS} FROM {of_steps} AND {_IS_END} GROUP BY start",
            f"SELECT queue_name, NULL, '', {_SUMS} FROM ({of_queues}) AS rows_of_queues GROUP BY queue_name",
            f"SELECT queue_name, start, '', {_SUMS} FROM {new} AND {_IS_END} GROUP BY queue_name, start",
            f"SELECT queue_name, start, outcome, {counted} FROM {of_steps} AND {attempts}",
            f"SELECT queue_name, start, outcome, {counted} FROM {new} AND {attempts}",
        )
    )


def _add_ends(figures: Figures, sums: Sequence[Any]) -> None:
    """Add sums of ends: a count of each outcome, then those of ``_COLUMNS``."""
    values = [int(value or 0) for value in sums]
    for outcome, count in zip(map(str, ENDS), values, strict=False):
        setattr(figures, outcome, getattr(figures, outcome) + count)
    enqueued, wait, run, *buckets = values[len(ENDS) :]
    figures.enqueued += enqueued
    figures.wait.add(Histogram(buckets[:BUCKET_COUNT], wait / 1_000_000))
    figures.run.add(Histogram(buckets[BUCKET_COUNT:], run / 1_000_000))


@dataclass(frozen=True, slots=True)
class _Steps:
    """The steps of a chart: ``count`` of ``seconds`` each, from ``since`` (seconds since 1970), read from a period."""

    period: Any
    since: int
    seconds: int
    count: int

    @classmethod
    def of(cls, window: timedelta, points: int, now: datetime) -> _Steps:
        if points < 1:
            raise ValueError("points must be 1 or more.")
        period = period_of(window)
        period_seconds = PERIOD_SECONDS[period]
        periods = max(-(-int(window.total_seconds()) // period_seconds), 1)
        step = -(-periods // points) * period_seconds
        last = first_start(now, period_seconds) - step + period_seconds
        count = -(-periods * period_seconds // step)
        return cls(period, last - (count - 1) * step, step, count)

    def make_figures(self, now: datetime, *, queue: str = "", task: str = "") -> list[Figures]:
        return [
            Figures(
                queue=queue,
                task=task,
                start=moment_of(self.since + number * self.seconds),
                seconds=min(float(self.seconds), now.timestamp() - self.since - number * self.seconds),
            )
            for number in range(self.count)
        ]

    def make_queue(self, name: str, now: datetime) -> Figures:
        return Figures(queue=name, start=moment_of(self.since), seconds=now.timestamp() - self.since)
