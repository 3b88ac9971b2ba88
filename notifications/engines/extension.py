"""What engines add to the core."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import ClassVar

from notifications.engines import checks, dispatching, has_backend_engine, senders  # noqa: F401  (the import registers the checks)
from notifications.engines.dispatch import EngineDispatch
from notifications.extension import Dispatch, Extension
from notifications.jobs.claiming.executors import DISPATCHED_EXECUTORS
from notifications.models import Job
from notifications.upkeep import Duty, Upkeep

logger = logging.getLogger("notifications.jobs")

#: Seconds between two moves of jobs whose backend has gained or lost its engine.
MOVE_INTERVAL_SECONDS = 60.0


class Engines(Extension):
    """Hands jobs to the engines of their backends."""

    name = "notifications.engines"
    label = "notifications_engines"
    findings: ClassVar[dict[str, str]] = {"engine": "notifications.management.diagnosis.engines.find_engines"}

    def ready(self) -> None:
        if has_backend_engine():
            # Loaded before workers of the other backend fork a process for each job, which would load it each time.
            from notifications.engines import process  # noqa: F401

    def after_cancel(self, ended: Sequence[Job], running: Sequence[Job]) -> None:
        if dispatched := [job for job in ended if job.executor in DISPATCHED_EXECUTORS]:
            senders.revoke(dispatched)

    def dispatch(self) -> Dispatch:
        return EngineDispatch()

    def duties(self, process: Upkeep) -> Iterable[Duty]:
        # At the start too, because the settings may have changed. Processes with the earlier ones may go on to enqueue.
        return [Duty("move jobs to their engines", MOVE_INTERVAL_SECONDS, _move_jobs, at_start=True)]


def _move_jobs() -> None:
    if moved := dispatching.move_to_configured_executors():
        logger.info("Moved queued jobs between the built-in worker and engines: %d", moved)
