"""Metrics of rates for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from notifications.contrib.rates.models import Limit
from notifications.contrib.rates.tokens import to_microseconds
from notifications.db import database, database_now

#: Limits that are listed at most, by key.
MAX_LIMITS = 100


def collect() -> Iterator[Metric]:
    """Yield what the limits have allowed, and which are closed, in one query and one for the time."""
    used = CounterMetricFamily(
        "notifications_rate_used", "Starts and calls that a limit has allowed.", labels=["key"]
    )
    closed = GaugeMetricFamily(
        "notifications_rate_closed", "1 if the partner has closed the limit.", labels=["key"]
    )
    now = to_microseconds(database_now())
    for limit in Limit.objects.using(database()).order_by("key")[:MAX_LIMITS]:
        used.add_metric([limit.key], limit.used)
        closed.add_metric([limit.key], float(now < limit.closed_until))
    yield from (used, closed)
