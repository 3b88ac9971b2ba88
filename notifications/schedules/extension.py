"""What schedules add to the core."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from notifications.extension import Extension, Pruned
from notifications.models import Tick
from notifications.schedules import checks, ticks  # noqa: F401  (the import registers the checks)
from notifications.upkeep import LASTING, Duty, Upkeep, Where


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
