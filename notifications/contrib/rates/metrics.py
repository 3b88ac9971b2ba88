"""Metrics of rates for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from notifications.contrib.rates.models import Limit
from notifications.contrib.rates.uses import read_uses, unused_limits
from notifications.db import database, database_now

#: Limits that are listed at most, by key.
MAX_LIMITS = 100


def collect() -> Iterator[Metric]:
    """Yield what the limits have allowed, what waits for them, and which are closed, in four queries."""
    used = CounterMetricFamily(
        "notifications_rate_used", "Starts and calls that a limit has allowed.", labels=["key"]
    )
    in_window, count, waiting, seconds, closed = [
        GaugeMetricFamily(f"notifications_rate_{name}", text, labels=["key"])
        for name, text in (
            ("window_used", "Starts and calls in the minute, hour or day of the rate."),
            ("window_limit", "Starts and calls that the rate allows in it, besides a burst."),
            ("waiting", "Jobs that wait for the limit; at most 1,001 are counted."),
            (
                "waiting_seconds",
                "Seconds until about when the waiting jobs that are counted will have begun.",
            ),
            ("closed", "1 if the partner has closed the limit."),
        )
    ]
    now = database_now()
    limits = [*unused_limits(now), *Limit.objects.using(database()).order_by("key")[:MAX_LIMITS]]
    uses = read_uses(limits, now)
    for limit in limits:
        use = uses[limit.key]
        used.add_metric([limit.key], limit.used)
        waiting.add_metric([limit.key], use.waiting)
        closed.add_metric([limit.key], float(use.closed_seconds > 0))
        if use.rate and use.used is not None:
            in_window.add_metric([limit.key], use.used)
            count.add_metric([limit.key], use.rate.count)
            seconds.add_metric([limit.key], use.seconds)
    yield from (used, in_window, count, waiting, seconds, closed)
