"""Metrics of schedules for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from notifications.contrib.schedules.models import Schedule
from notifications.db import database

#: Schedules that are listed at most, by name.
MAX_SCHEDULES = 100


def collect() -> Iterator[Metric]:
    """Yield what is known of each declared schedule, in one query. There may be thousands of stored ones."""
    paused = GaugeMetricFamily(
        "notifications_schedule_paused", "1 if the schedule is paused.", labels=["schedule"]
    )
    problem = GaugeMetricFamily(
        "notifications_schedule_problem",
        "1 for what has gone wrong since the last run that succeeded.",
        labels=["schedule", "problem"],
    )
    last = GaugeMetricFamily(
        "notifications_schedule_last_run_timestamp_seconds", "When it was due last.", labels=["schedule"]
    )
    following = GaugeMetricFamily(
        "notifications_schedule_next_run_timestamp_seconds", "When it is due next.", labels=["schedule"]
    )
    declared = Schedule.objects.using(database()).filter(options__isnull=True)
    for row in declared.order_by("name")[:MAX_SCHEDULES]:
        paused.add_metric([row.name], float(row.paused_at is not None))
        for name in ("failed", "missed", "skipped"):
            problem.add_metric([row.name, name], float(row.problem == name))
        if row.last_tick:
            last.add_metric([row.name], row.last_tick.timestamp())
        if row.next_tick and not row.paused_at:
            following.add_metric([row.name], row.next_tick.timestamp())
    yield from (paused, problem, last, following)
