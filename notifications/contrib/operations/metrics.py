"""Metrics of jobs for Prometheus. Needs the extra ``prometheus``.

``metrics/`` serves them. A project that has an endpoint of its own registers the collector there:

    from prometheus_client import REGISTRY
    from notifications.contrib.operations.metrics import JobCollector

    REGISTRY.register(JobCollector())

All processes of a project see the same numbers, because they come from the database: read one process only.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain, product

from django.db.models import Count, Q, Sum
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from notifications.contrib.operations.alerts.conditions import has_questions, read_questions
from notifications.contrib.operations.alerts.texts import MAX_OPEN_ALERTS
from notifications.contrib.operations.models import Alert, alert_kinds
from notifications.contrib.operations.running import count_waiting
from notifications.contrib.operations.statistics import Histogram, Sums, read_totals
from notifications.contrib.operations.statistics.reading import ENDS
from notifications.contrib.operations.statistics.recording import BOUNDS_SECONDS
from notifications.db import connection, database, database_now, is_lease_valid
from notifications.extension import hooks
from notifications.management import queue_depths
from notifications.models import ServerProcess, Worker

__all__ = ["JobCollector"]

#: Of the buckets in the database every second one is a bucket of the metrics: 0.001 to 67108.864 s by factors of 4.
BUCKET_STEP = 2
#: Running jobs that are counted at most.
MAX_RUNNING_COUNTED = 10_000

_RUNNING = f"""
    SELECT queue_name, count(*) FROM (
        SELECT queue_name FROM notifications_job
        WHERE state = 'running' AND worker IS NOT NULL LIMIT {MAX_RUNNING_COUNTED}
    ) AS running GROUP BY queue_name
"""


class JobCollector(Collector):
    """Collects the metrics in eight queries, and one for an extension, none of which reads finished jobs.

    Counters and histograms count from the first job of the database on, whichever processes end and whichever jobs are
    deleted. Raises ``django.db.Error`` where the database does not answer.
    """

    def describe(self) -> list[Metric]:
        """Return nothing: registering the collector reads no database."""
        return []

    def collect(self) -> Iterator[Metric]:
        totals = read_totals()
        yield from _counters(totals)
        yield from _histograms(totals)
        yield from _queue_gauges()
        yield from _worker_gauges()
        yield from _server_gauges()
        yield _alert_gauge()
        yield from chain.from_iterable(find() for find in hooks.functions_of("operations", "metrics"))


def exposition(accept: str) -> tuple[bytes, str]:
    """Return the metrics in the format that an ``Accept`` header asks for, and its content type."""
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry(auto_describe=False)
    registry.register(JobCollector())
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _counters(totals: Iterable[Sums]) -> Iterator[Metric]:
    labels = ["queue", "task", "outcome"]
    jobs = CounterMetricFamily("notifications_jobs", "Jobs that ended, by outcome.", labels=labels)
    attempts = CounterMetricFamily(
        "notifications_job_attempts", "Attempts that were retried, timed out or lost.", labels=labels
    )
    for total in totals:
        family = jobs if total.outcome in ENDS else attempts
        family.add_metric([total.queue, total.task, total.outcome], total.count)
    yield from (jobs, attempts)


def _histograms(totals: Iterable[Sums]) -> Iterator[Metric]:
    times: dict[tuple[str, str], dict[str, Histogram]] = defaultdict(
        lambda: {"wait": Histogram(), "run": Histogram()}
    )
    for total in totals:
        if total.outcome in ENDS:
            of_task = times[total.queue, total.task]
            of_task["wait"].add(total.wait)
            of_task["run"].add(total.run)
    descriptions = {
        "wait": "Seconds from when a job was due to its start.",
        "run": "Seconds from the last start of a job to its end.",
    }
    for name, description in descriptions.items():
        family = HistogramMetricFamily(
            f"notifications_job_{name}_seconds", description, labels=["queue", "task"]
        )
        for (queue, task), histograms in sorted(times.items()):
            histogram = histograms[name]
            family.add_metric([queue, task], _buckets(histogram), histogram.total_seconds)
        yield family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return the upper bound of each bucket, and how many times are not above it."""
    counts = list(accumulate(histogram.counts))
    bounds = [(str(BOUNDS_SECONDS[n]), float(counts[n])) for n in range(0, len(BOUNDS_SECONDS), BUCKET_STEP)]
    return [*bounds, ("+Inf", float(counts[-1]))]


def _queue_gauges() -> Iterator[Metric]:
    now = database_now()
    due = GaugeMetricFamily("notifications_jobs_due", "Queued jobs that may start now.", labels=["queue"])
    delayed = GaugeMetricFamily("notifications_jobs_delayed", "Queued jobs for later.", labels=["queue"])
    limited = GaugeMetricFamily(
        "notifications_jobs_limited", "Queued jobs that wait for the limit of a key.", labels=["queue"]
    )
    unserved = GaugeMetricFamily(
        "notifications_jobs_unserved", "Due jobs of a queue that no live process takes.", labels=["queue"]
    )
    oldest = GaugeMetricFamily(
        "notifications_job_oldest_wait_seconds", "How long the oldest due job has waited.", labels=["queue"]
    )
    paused = GaugeMetricFamily("notifications_queue_paused", "1 if the queue is paused.", labels=["queue"])
    for depth in queue_depths().queues:
        due.add_metric([depth.name], depth.due)
        delayed.add_metric([depth.name], depth.delayed)
        limited.add_metric([depth.name], depth.limited)
        unserved.add_metric([depth.name], depth.unserved)
        since = depth.oldest_since
        oldest.add_metric([depth.name], max((now - since).total_seconds(), 0.0) if since else 0.0)
        paused.add_metric([depth.name], float(depth.is_paused))
    running = GaugeMetricFamily("notifications_jobs_running", "Jobs that a worker runs.", labels=["queue"])
    with connection().cursor() as cursor:
        cursor.execute(_RUNNING)
        for queue, count in cursor.fetchall():
            running.add_metric([queue], count)
    waiting = GaugeMetricFamily(
        "notifications_jobs_waiting", "Jobs that wait for a time, without a worker.", labels=["queue"]
    )
    for queue, count in count_waiting().items():
        waiting.add_metric([queue], count)
    yield from (due, delayed, limited, unserved, running, waiting, oldest, paused)
    if not has_questions():
        return
    count, _, asked_at = read_questions()
    yield GaugeMetricFamily("notifications_questions_open", "Open questions.", count)
    yield GaugeMetricFamily(
        "notifications_question_oldest_seconds",
        "How long the oldest open question has waited.",
        max((now - asked_at).total_seconds(), 0.0) if asked_at else 0.0,
    )


def _worker_gauges() -> Iterator[Metric]:
    live = Worker.objects.using(database()).filter(is_lease_valid(database_now()))
    sums = live.aggregate(
        workers=Count("id"),
        quiet=Count("id", filter=~Q(request="")),
        slots=Sum("concurrency"),
        busy=Sum("load"),
    )
    yield GaugeMetricFamily(
        "notifications_workers_quiet", "Workers that were requested to start no more jobs.", sums["quiet"]
    )
    yield GaugeMetricFamily("notifications_workers", "Workers whose lease holds.", sums["workers"])
    yield GaugeMetricFamily(
        "notifications_worker_slots", "Jobs that the workers may run at once.", sums["slots"] or 0
    )
    yield GaugeMetricFamily(
        "notifications_worker_slots_busy", "Jobs that the workers run.", sums["busy"] or 0
    )


def _server_gauges() -> Iterator[Metric]:
    is_live = is_lease_valid(database_now(), ServerProcess.LEASE_SECONDS)
    sums = (
        ServerProcess.objects.using(database())
        .filter(is_live)
        .aggregate(servers=Count("id"), sockets=Sum("sockets"))
    )
    yield GaugeMetricFamily("notifications_servers", "ASGI server processes.", sums["servers"])
    yield GaugeMetricFamily(
        "notifications_sockets", "WebSockets and event streams that are open.", sums["sockets"] or 0
    )


def _alert_gauge() -> Metric:
    """Return the number of open alerts of each kind, also of those without one, so that a rule finds a value."""
    rows = Alert.objects.using(database()).filter(closed_at__isnull=True).order_by("id")
    found = Counter(
        (kind, "no" if acknowledged_at is None else "yes")
        for kind, acknowledged_at in rows.values_list("kind", "acknowledged_at")[:MAX_OPEN_ALERTS]
    )
    labels = ["kind", "acknowledged"]
    family = GaugeMetricFamily("notifications_alerts_open", "Open alerts.", labels=labels)
    for key in product([kind for kind, _ in alert_kinds()], ("no", "yes")):
        family.add_metric(list(key), found[key])
    return family
