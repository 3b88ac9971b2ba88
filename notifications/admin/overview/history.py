"""Throughput and durations of the last hour, day or week, from the statistics of jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """A period that the page offers, and the length of one point of its charts.

    ``time_format`` is how a point's start is written, for the filter ``date``.
    """

    label: Any
    length: timedelta
    step: timedelta
    time_format: str


PERIODS = {
    "hour": Period(label=_("hour"), length=timedelta(hours=1), step=timedelta(minutes=1), time_format="H:i"),
    "day": Period(label=_("day"), length=timedelta(days=1), step=timedelta(minutes=30), time_format="H:i"),
    "week": Period(label=_("week"), length=timedelta(days=7), step=timedelta(hours=3), time_format="D H:i"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Durations:
    """Seconds within which half, 95 % and 99 % of the times lie; None if nothing was counted."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """What was counted in the period. Rates are in jobs per minute."""

    enqueued: int = 0
    ended: int = 0
    failed: int = 0
    in_rate: float = 0.0
    out_rate: float = 0.0
    wait: Durations = Durations()
    run: Durations = Durations()

    @property
    def failed_percent(self) -> float | None:
        """The share of ended jobs that failed, None if no job has ended."""
        return 100 * self.failed / self.ended if self.ended else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """What was counted in one step of the period."""

    start: datetime
    totals: Totals


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The figures of a period: of all jobs, by queue, and for charts."""

    totals: Totals = Totals()
    queues: dict[str, Totals] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)


def read_history(period: str, now: datetime) -> History:
    """Return the figures of one of ``PERIODS`` that ends now."""
    return History()
