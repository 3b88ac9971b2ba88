"""Schedules: tasks that are enqueued periodically, as declared in ``NOTIFICATIONS["SCHEDULES"]``.

models         a schedule, whose row has the next tick, and ticks: what became of each moment at which it was due
timing         when a schedule is due: by a cron expression or at an interval
declarations   reads and validates the declarations; ``checks`` reports what is wrong
tasks          the tasks that they name
users          who owns the jobs, and who is notified of problems
ticks          enqueues one job for each tick that is due, whatever the number of processes
enqueueing     inserts the job and the tick
runs           records how the jobs ended, and which problems begin or end
topics         what is announced of these problems
alerts         the alert that ticks were missed
operating      pause, resume and run a schedule by hand; ``admin`` and ``commands`` offer it
findings       what ``doctor`` examines
metrics        for Prometheus

A job is enqueued in the transaction that advances the row of its schedule and inserts the row of the tick, which is
unique. So any number of processes may run ``ticks.run_round()``, and no leader is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from django.utils.translation import gettext_lazy as _

from notifications.extension import Extension, Pruned, Setting

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin
    from django.http import HttpRequest

    from notifications.db.clock import StoredTime
    from notifications.extension import AlertKind, Topic
    from notifications.upkeep import Duty, Upkeep


class Schedules(Extension):
    name = "notifications.contrib.schedules"
    label = "notifications_schedules"
    verbose_name = _("Schedules")
    default_auto_field = "django.db.models.BigAutoField"
    settings: ClassVar[Mapping[str, Setting]] = {"SCHEDULES": Setting({})}
    subcommands: ClassVar[Mapping[str, str]] = {
        "schedules": "notifications.contrib.schedules.commands.SchedulesCommand"
    }
    findings: ClassVar[Mapping[str, str]] = {
        "schedules": "notifications.contrib.schedules.findings.find_schedules"
    }

    def ready(self) -> None:
        from notifications.contrib.schedules import checks  # noqa: F401  (the import registers them)

    def duties(self, process: Upkeep) -> Iterable[Duty]:
        from notifications.contrib.schedules import ticks
        from notifications.upkeep import LASTING, Duty, Where

        name, start = "enqueue jobs of schedules", process.project_threads.start
        return [
            Duty(name, 0, ticks.run_worker_round, Where.WORKER, has_own_loop=True),
            Duty(
                name,
                0,
                lambda: start(ticks.run_round, "Could not enqueue jobs of schedules", may_be_stuck=True),
                LASTING & ~Where.WORKER,
                is_for_each_process=True,
            ),
        ]

    def topics(self, announced: Collection[str]) -> Iterable[Topic]:
        from notifications.contrib.schedules.topics import find_schedule_topics

        return find_schedule_topics(announced)

    def pruned(self) -> Sequence[Pruned]:
        from notifications.contrib.schedules.models import Tick

        return [Pruned(Tick, "recorded_at", "ticks of schedules")]

    def alert_kinds(self) -> Sequence[AlertKind]:
        from notifications.contrib.schedules.alerts import ScheduleMissed

        return [ScheduleMissed()]

    def overview_sections(
        self, model_admin: ModelAdmin[Any], request: HttpRequest
    ) -> Iterable[Mapping[str, Any]]:
        from notifications.contrib.schedules.admin import read_overview_section

        return [read_overview_section(model_admin, request)]

    def metrics(self) -> Iterable[Any]:
        from notifications.contrib.schedules.metrics import collect

        return collect()

    def stored_times(self, now: datetime) -> Iterable[StoredTime]:
        from notifications.contrib.schedules.findings import stored_times

        return stored_times()
