"""All figures of the overview, of one moment: what waits and runs in each queue, and those of the other modules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext_lazy as _

from notifications.contrib.operations.admin.overview import charts, failures, history, processes
from notifications.contrib.operations.admin.overview.charts import Chart, Series
from notifications.contrib.operations.admin.overview.failures import Failures
from notifications.contrib.operations.admin.overview.history import History
from notifications.contrib.operations.admin.overview.processes import CircuitState, WorkerProcess
from notifications.contrib.operations.alerts.texts import open_alerts
from notifications.contrib.operations.models import Alert
from notifications.contrib.operations.periods import read_span
from notifications.contrib.operations.running import count_waiting, read_running
from notifications.contrib.operations.statistics import Figures
from notifications.db import database_now
from notifications.extension import hooks
from notifications.jobs import aliases_with_engines, stores_jobs, task_backends
from notifications.management import WaitCounts, paused_queues, queue_depths
from notifications.models import ServerProcess
from notifications.realtime import doorbell

#: Paused queues that are read at most.
MAX_PAUSED_READ = 50
#: Values of ``WaitReason`` that a row says in words.
REASONS_SHOWN = ("no_worker", "limited")


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueRow:
    """A queue now and in the period. ``running`` jobs are with a worker; a due job has waited for ``wait_seconds``."""

    now: Any
    running: int
    wait_seconds: float | None
    totals: Figures

    @property
    def reasons(self) -> list[str]:
        """What its jobs wait for that have no column of their own: a worker, a limit."""
        counts = WaitCounts.of([self.now])
        return WaitCounts({name: counts[name] for name in REASONS_SHOWN if name in counts}).list_reasons()


@dataclass(frozen=True, kw_only=True, slots=True)
class OverviewFigures:
    """What the page shows.

    ``since``, ``until``
        The begin and the end of the period, None for now.
    ``waiting``
        The number of jobs that are suspended.
    """

    now: datetime
    period: str
    since: datetime
    until: datetime | None
    alerts: list[Alert]
    queues: list[QueueRow]
    large_shares: list[Any]
    waiting: int
    history: History
    failures: Failures
    workers: list[WorkerProcess]
    servers: list[ServerProcess]
    circuits: list[CircuitState]
    runners: list[tuple[str, str]]
    doorbell: str
    throughput_chart: Chart | None
    wait_chart: Chart | None
    run_chart: Chart | None

    @property
    def counted_until(self) -> datetime:
        """The end of the time of which failed jobs are counted, which questions carry."""
        return self.until or max(
            [self.now, *(group.last_at for group in self.failures.groups if group.last_at)]
        )

    @property
    def queued(self) -> int:
        """How many jobs are queued, whatever they wait for."""
        return sum(row.now.total for row in self.queues)

    @property
    def reasons(self) -> list[str]:
        """What they wait for, but their turn: "3 scheduled"."""
        return WaitCounts.of(row.now for row in self.queues).list_reasons()

    @property
    def is_capped(self) -> bool:
        """Whether more jobs are queued than were counted."""
        return any(row.now.is_capped or row.now.is_delayed_capped for row in self.queues)

    @property
    def running(self) -> int:
        return sum(row.running for row in self.queues)

    @property
    def longest_wait_seconds(self) -> float | None:
        """How long the oldest due job of all queues that are not paused has waited."""
        waits = [row.wait_seconds for row in self.queues if not row.now.is_paused]
        return max((wait for wait in waits if wait is not None), default=None)

    @property
    def live_workers(self) -> list[WorkerProcess]:
        """The workers whose lease holds."""
        return [worker for worker in self.workers if worker.is_live]

    @property
    def requestable_workers(self) -> list[WorkerProcess]:
        """The workers that staff can quiet and stop."""
        return [worker for worker in self.workers if worker.takes_requests]

    @property
    def has_quiet_worker(self) -> bool:
        """Whether staff can resume a worker."""
        return any(worker.request for worker in self.requestable_workers)

    @property
    def has_active_worker(self) -> bool:
        """Whether staff can quiet a worker."""
        return not all(worker.request for worker in self.requestable_workers)

    @property
    def load(self) -> int:
        """How many jobs live workers run."""
        return sum(worker.load for worker in self.live_workers)

    @property
    def slots(self) -> int:
        return sum(worker.slots for worker in self.live_workers)

    @property
    def sockets(self) -> int:
        return sum(server.sockets for server in self.servers)


def read_figures(
    period: str,
    *,
    queue: str = "",
    task: str = "",
    with_deliveries: bool = False,
    with_messages: bool = False,
) -> OverviewFigures:
    """Return the figures for a period (see ``read_span``). The number of queries and of rows read is bounded.

    ``queue``, ``task``
        The charts are of this queue and task only.
    ``with_deliveries``
        Whether the jobs are there that ``JobFilter(deliveries="hidden")`` leaves out.
    ``with_messages``
        Whether the messages of exceptions are read.
    """
    now = database_now(is_estimate=True)
    since, until = read_span(period, now)
    past = history.read_history(period, now, queue=queue, task=task, with_deliveries=with_deliveries)
    depths = queue_depths(has_senders=with_deliveries)
    workers = processes.read_workers(now)
    return OverviewFigures(
        now=now,
        period=period,
        since=since,
        until=until,
        alerts=open_alerts(),
        queues=_read_queues(now, past, depths, with_deliveries=with_deliveries),
        large_shares=(depths if with_deliveries else queue_depths()).find_large_shares(),
        waiting=sum(count_waiting().values()),
        history=past,
        failures=failures.read_failures(
            since, until, with_deliveries=with_deliveries, with_messages=with_messages
        ).with_incidents(since, until, with_deliveries=with_deliveries, with_messages=with_messages),
        workers=workers,
        servers=processes.read_servers(now),
        circuits=processes.read_circuits(workers),
        runners=runners(),
        doorbell=doorbell.doorbell.transport.name,
        throughput_chart=charts.build_chart(_throughput(past)),
        wait_chart=charts.build_chart(_durations(past, "wait")),
        run_chart=charts.build_chart(_durations(past, "run")),
    )


def runners() -> list[tuple[str, str]]:
    """Return what runs the jobs of each backend of ``TASKS``: alias and label."""
    built_in, with_engines = str(_("Built-in worker")), aliases_with_engines()
    return [
        (alias, hooks.dispatch.label_of(alias) if alias in with_engines else built_in)
        for alias in task_backends.settings
        if alias in with_engines or stores_jobs(alias)
    ]


def _throughput(past: History) -> list[Series]:
    lines = [
        Series(name="in", label=_("in"), values=[point.enqueued_per_minute for point in past.points]),
        Series(name="out", label=_("out"), values=[point.ended_per_minute for point in past.points]),
    ]
    return lines if any(point.has_jobs for point in past.points) else []


def _durations(past: History, kind: str) -> list[Series]:
    return [
        Series(
            name=name,
            label=name,
            values=[getattr(getattr(point, kind), name) for point in past.points],
        )
        for name in ("p50", "p95", "p99")
    ]


def _read_queues(now: datetime, past: History, depths: Any, *, with_deliveries: bool) -> list[QueueRow]:
    """Return the queues with jobs, now or in the period, and paused ones, by name, in two queries."""
    running = read_running(without_deliveries=not with_deliveries)
    paused = set(paused_queues().order_by("name")[:MAX_PAUSED_READ])
    rows = []
    for name in sorted(
        {depth.name for depth in depths.queues} | running.keys() | paused | past.queues.keys()
    ):
        depth = depths.of(name, is_paused=name in paused)
        since = depth.oldest_since
        rows.append(
            QueueRow(
                now=depth,
                running=running[name].count if name in running else 0,
                wait_seconds=max(0.0, (now - since).total_seconds()) if since else None,
                totals=past.queues.get(name, Figures(queue=name)),
            )
        )
    return rows
