"""Read the points of charts from the statistics of jobs: figures of equal steps of a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from notifications import times
from notifications.contrib.operations.statistics.reading import (
    Figures,
    first_start,
    moment_of,
    period_of,
    read_sums,
)
from notifications.contrib.operations.statistics.roll_up import PERIOD_SECONDS


def read_points(
    window: timedelta,
    points: int = 60,
    *,
    queue: str | None = None,
    task: str | None = None,
    without_deliveries: bool = False,
    now: datetime | None = None,
) -> list[Figures]:
    """Return at most ``points`` figures for a chart of the last ``window``: equal steps of time, oldest first.

    Each is the sum of all queues and tasks, or of those that are named: see ``read_figures``. Steps in which nothing
    ended are there too. A step is a multiple of a minute, an hour or a day. The last one lasts until ``now``, and the
    first one may begin up to a step before or after the window. One query.
    """
    now = now or times.now()
    steps = _Steps.of(window, points, now)
    figures = steps.make_figures(now, queue=queue or "", task=task or "")
    sums = read_sums(
        steps.period,
        steps.since,
        now,
        (),
        queue=queue,
        task=task,
        step=steps.seconds,
        without_deliveries=without_deliveries,
    )
    for row in sums:
        if 0 <= row.step < steps.count:
            figures[row.step].add(row)
    return figures


def read_queues(
    window: timedelta, points: int = 60, *, without_deliveries: bool = False, now: datetime | None = None
) -> dict[str, Figures]:
    """Return the figures of each queue, by name, within the time of the steps of ``read_points``. One query."""
    now = now or times.now()
    steps = _Steps.of(window, points, now)
    queues: dict[str, Figures] = {}
    sums = read_sums(steps.period, steps.since, now, ("queue_name",), without_deliveries=without_deliveries)
    for row in sorted(sums, key=lambda row: row.queue):  # PostgreSQL returns groups in any order.
        queues.setdefault(row.queue, steps.make_queue(row.queue, now)).add(row)
    return queues


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
