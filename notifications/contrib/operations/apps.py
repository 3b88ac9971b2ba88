"""Operations: what operators of jobs see, and what they do with many at once.

models           statistics of jobs, alerts, and the permission to view the overview
statistics/      counts jobs and their times in the transaction that ends them, and reads the sums
alerts/          what needs an operator, from when it begins until it is over
admin/           the overview and alerts; filters and bulk changes of jobs, filters of notifications
matching         the jobs that a filter selects
bulk_changes     retries, cancels and reschedules them
worker_requests  has workers start no more jobs, or end
metrics          the metrics of jobs for Prometheus; views and urls serve them
commands/        ``jobs cancel``, ``retry`` and ``reschedule`` with filters, ``jobs stats``
findings         what ``doctor`` says of alerts
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from notifications.extension import EVERYWHERE, Duty, Extension, RecordedTransaction, Rows, Setting, Topic
from notifications.states import JobState

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin, SimpleListFilter
    from django.http import HttpRequest, HttpResponse

    from notifications.contrib.operations.statistics.recording import StatisticsBuffer
    from notifications.db.clock import StoredTime
    from notifications.jobs.outcomes import Outcome
    from notifications.models import Worker
    from notifications.upkeep import Upkeep

#: Seconds from the start of a process to its first evaluation of alerts and roll-up, at most. A process that lives for
#: one job would begin what others have time for.
MAX_FIRST_DELAY_SECONDS = 15.0


#: The limits of alerts, each with whether None turns it off. ``alerts/conditions.py`` has the defaults.
ALERT_LIMITS = {
    "interval": True,
    "stalled": True,
    "wait": True,
    "failure_rate": True,
    "min_failures": False,
    "no_worker": True,
    "question": True,
}


def _are_alerts(value: dict[str, Any]) -> bool:
    return all(
        key in ALERT_LIMITS
        and (
            (limit is None and ALERT_LIMITS[key])
            or (type(limit) in (int, float) and 0 < limit <= (1 if key == "failure_rate" else 604_800))
        )
        for key, limit in value.items()
    )


class Operations(Extension):
    name = "notifications.contrib.operations"
    label = "notifications_operations"
    verbose_name = _("Operations")
    default_auto_field = "django.db.models.BigAutoField"
    subcommands: ClassVar[dict[str, str]] = {
        "jobs cancel": "notifications.contrib.operations.commands.bulk_changes.BulkCancelCommand",
        "jobs retry": "notifications.contrib.operations.commands.bulk_changes.BulkRetryCommand",
        "jobs reschedule": "notifications.contrib.operations.commands.bulk_changes.BulkRescheduleCommand",
        "jobs stats": "notifications.contrib.operations.commands.job_statistics.StatsCommand",
    }
    settings: ClassVar[dict[str, Setting]] = {
        "ALERTS": Setting(
            {},
            is_valid=_are_alerts,
            rule="a dict of limits above 0: interval, stalled, wait, no_worker and question in seconds (at most a "
            "week), failure_rate of at most 1, min_failures; None turns any but min_failures off, and as the interval "
            "all alerts",
        ),
        "METRICS_TOKEN": Setting(
            "",
            is_valid=lambda value: not value or len(value) >= 16,
            rule="a text of 16 characters or more, or ''",
            is_secret=True,
        ),
    }
    findings: ClassVar[dict[str, str]] = {"alerts": "notifications.contrib.operations.findings.find_alerts"}

    def prepare(self) -> None:
        from notifications.contrib.operations.statistics import recording  # noqa: F401

    def on_attempts(self, outcomes: Sequence[Outcome], tx: RecordedTransaction) -> Rows:
        assert tx.now is not None
        buffer = self._buffer(tx)
        for outcome in outcomes:
            if outcome.attempt:
                buffer.add_attempt(outcome.job, outcome, tx.now)
        return ()

    def on_ends(self, outcomes: Sequence[Outcome], tx: RecordedTransaction) -> Rows:
        assert tx.now is not None
        buffer = self._buffer(tx)
        for outcome in outcomes:
            if outcome.job.state != JobState.WAITING:
                buffer.add_end(outcome.job, tx.now, has_run=tx.has_run)
        return ()

    def last(self, tx: RecordedTransaction) -> None:
        if buffer := tx.kept.get(self.label):
            buffer.write()

    def on_workers_lost(self, workers: Sequence[Worker], now: datetime) -> None:
        """Store for alerts that a lease was lost."""
        from notifications.contrib.operations.alerts.evaluation import record_lost_workers

        record_lost_workers(workers, now)

    def duties(self, process: Upkeep) -> Iterable[Duty]:
        from notifications.contrib.operations.alerts import evaluation
        from notifications.contrib.operations.statistics import roll_up

        alerts = Duty(
            "evaluate alerts", _alert_interval, lambda: evaluation.evaluate(alerts.previous_run), EVERYWHERE
        )
        statistics = Duty(
            "roll up statistics",
            roll_up.INTERVAL_SECONDS,
            lambda: process.run_chunks(lambda: roll_up.roll_up_chunk() or roll_up.delete_chunk()),
        )
        for duty in (alerts, statistics):
            duty.due_at += min(duty.interval or 0.0, MAX_FIRST_DELAY_SECONDS) * random.uniform(0.5, 1)
        return [alerts, statistics]

    def topics(self, announced: Collection[str]) -> Iterable[Topic]:
        from notifications.contrib.operations.alerts.topics import find_alert_topics

        return find_alert_topics(announced)

    def stored_times(self, now: datetime) -> Iterable[StoredTime]:
        from notifications.contrib.operations.models import Alert, AlertState
        from notifications.db.clock import StoredTime

        return [
            StoredTime(model=AlertState, name="no_worker_since"),
            StoredTime(model=AlertState, name="lease_lost_at"),
            StoredTime(model=Alert, name="seen_at", rows=Q(closed_at__isnull=True)),
        ]

    def list_filters(
        self, model_admin: ModelAdmin[Any], request: HttpRequest
    ) -> Sequence[type[SimpleListFilter]]:
        from notifications.contrib.operations.admin import job_filters, notification_filters

        label = model_admin.opts.concrete_model._meta.label
        if label == "notifications.Job":
            return job_filters.permitted_filters(request)
        return notification_filters.FILTERS if label == "notifications.Notification" else ()

    def action_for_all(
        self, model_admin: ModelAdmin[Any], request: HttpRequest, name: str
    ) -> Callable[[], HttpResponse | None] | None:
        from notifications.contrib.operations.admin import bulk_changes

        label = model_admin.opts.concrete_model._meta.label
        if label != "notifications.Job" or name not in bulk_changes.CHANGES:
            return None
        return partial(bulk_changes.respond, model_admin, request, bulk_changes.CHANGES[name])

    def _buffer(self, tx: RecordedTransaction) -> StatisticsBuffer:
        buffer: StatisticsBuffer | None = tx.kept.get(self.label)
        if buffer is None:
            from notifications.contrib.operations.statistics.recording import StatisticsBuffer

            buffer = tx.kept[self.label] = StatisticsBuffer()
        return buffer


def _alert_interval() -> float | None:
    from notifications.contrib.operations.alerts.conditions import Limits, read_limits

    try:
        return read_limits().interval
    except ImproperlyConfigured:
        return Limits().interval  # the evaluation raises it too, and that is logged
