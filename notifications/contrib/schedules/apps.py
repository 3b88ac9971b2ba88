"""What schedules add to the core."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from notifications.extension import AlertKind, Extension, Pruned, Topic
from notifications.models import Tick
from notifications.schedules import checks, ticks  # noqa: F401  (the import registers the checks)
from notifications.schedules.alerts import ScheduleMissed
from notifications.schedules.topics import find_schedule_topics
from notifications.upkeep import LASTING, Duty, Upkeep, Where

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin
    from django.http import HttpRequest


class Schedules(Extension):
    """Enqueues the jobs of schedules."""

    name = "notifications.schedules"
    label = "notifications_schedules"
    subcommands: ClassVar[dict[str, str]] = {
        "schedules": "notifications.management.subcommands.schedules.SchedulesCommand",
    }
    findings: ClassVar[dict[str, str]] = {
        "schedules": "notifications.management.diagnosis.schedules.find_schedules"
    }

    def pruned(self) -> Sequence[Pruned]:
        return [Pruned(Tick, "recorded_at", "ticks of schedules")]

    def alert_kinds(self) -> Sequence[AlertKind]:
        return [ScheduleMissed()]

    def duties(self, process: Upkeep) -> Iterable[Duty]:
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
        return find_schedule_topics(announced)

    def overview_sections(
        self, model_admin: ModelAdmin[Any], request: HttpRequest
    ) -> Iterable[Mapping[str, Any]]:
        from notifications.schedules.overview import read_section

        return [read_section(model_admin, request)]

    def metrics(self) -> Iterable[Any]:
        from notifications.schedules.metrics import collect

        return collect()

    def stored_times(self, now: datetime) -> Iterable[Any]:
        from notifications.schedules.stored_times import stored_times

        return stored_times()
