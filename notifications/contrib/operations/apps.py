"""What statistics and alerts add to the core: to the recording of jobs, and duties."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured

from notifications.contrib.operations.alerts import evaluation
from notifications.contrib.operations.alerts.conditions import Limits, read_limits
from notifications.contrib.operations.alerts.topics import find_alert_topics
from notifications.contrib.operations.statistics import roll_up
from notifications.contrib.operations.statistics.recording import StatisticsBuffer
from notifications.extension import Extension, RecordedTransaction, Rows, Topic
from notifications.models import Job
from notifications.upkeep import EVERYWHERE, Duty, Upkeep

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin, SimpleListFilter
    from django.http import HttpRequest, HttpResponse

    from notifications.jobs.outcomes import Outcome

#: Seconds from the start of a process to its first evaluation of alerts and roll-up, at most. A process that lives for
#: one job would begin what others have time for.
MAX_FIRST_DELAY_SECONDS = 15.0


class Operations(Extension):
    """Counts ends of jobs and attempts in the transaction that records them, and notifies staff of what is wrong."""

    name = "notifications.operations"
    label = "notifications_operations"
    subcommands: ClassVar[dict[str, str]] = {
        "jobs cancel": "notifications.contrib.operations.commands.bulk_changes.BulkCancelCommand",
        "jobs retry": "notifications.contrib.operations.commands.bulk_changes.BulkRetryCommand",
        "jobs reschedule": "notifications.contrib.operations.commands.bulk_changes.BulkRescheduleCommand",
        "jobs stats": "notifications.contrib.operations.commands.job_statistics.StatsCommand",
    }
    findings: ClassVar[dict[str, str]] = {"alerts": "notifications.contrib.operations.findings.find_alerts"}

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
            if outcome.job.state != Job.State.WAITING:
                buffer.add_end(outcome.job, tx.now, has_run=tx.has_run)
        return ()

    def last(self, tx: RecordedTransaction) -> None:
        if buffer := tx.kept.get(self.label):
            buffer.write()

    def duties(self, process: Upkeep) -> Iterable[Duty]:
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
        return find_alert_topics(announced)

    def list_filters(
        self, model_admin: ModelAdmin[Any], request: HttpRequest
    ) -> Sequence[type[SimpleListFilter]]:
        from notifications.contrib.operations.admin import job_filters, notification_filters

        if model_admin.opts.label == "notifications.Job":
            return job_filters.permitted_filters(request)
        return notification_filters.FILTERS if model_admin.opts.label == "notifications.Notification" else ()

    def action_for_all(
        self, model_admin: ModelAdmin[Any], request: HttpRequest, name: str
    ) -> Callable[[], HttpResponse | None] | None:
        from notifications.contrib.operations.admin import bulk_changes

        if model_admin.opts.label != "notifications.Job" or name not in bulk_changes.CHANGES:
            return None
        return partial(bulk_changes.respond, model_admin, request, bulk_changes.CHANGES[name])

    def _buffer(self, tx: RecordedTransaction) -> StatisticsBuffer:
        buffer: StatisticsBuffer = tx.kept.setdefault(self.label, StatisticsBuffer())
        return buffer


def _alert_interval() -> float | None:
    try:
        return read_limits().interval
    except ImproperlyConfigured:
        return Limits().interval  # the evaluation raises it too, and that is logged
