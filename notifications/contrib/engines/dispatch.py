"""What the core calls for jobs of engines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from notifications.contrib.engines import (
    configured_engines,
    dispatch_loop,
    dispatching,
    has_engines,
    label_of,
    senders,
    unserved,
    usable_engine,
)
from notifications.contrib.engines.resending import read_activity
from notifications.db.clock import database_now
from notifications.extension import BackendQueue, Dispatch
from notifications.models import Job

if TYPE_CHECKING:
    from django.db.models import QuerySet


class EngineDispatch(Dispatch):
    """Dispatches jobs to the engines of their backends."""

    def require(self, alias: str) -> None:
        usable_engine(alias)

    def prepare(self, job: Job) -> None:
        senders.prepare(job)

    def send_after_commit(self, jobs: Iterable[Job]) -> None:
        senders.send_after_commit(jobs)

    def move_to_engines(self) -> int:
        return dispatching.move_to_engines()

    def find_stalled(self, queues: Collection[BackendQueue], now: datetime) -> set[BackendQueue]:
        return set(queues) - read_activity(now).newest.keys()

    def label_of(self, alias: str) -> str:
        return label_of(alias)

    def start_advice(self) -> str:
        return " ".join(engine.start_advice() for engine in configured_engines().values())

    def find_missing_process(self) -> str:
        now = database_now()
        for engine in configured_engines().values():
            if unserved.has_processes(engine, now) is False:
                return f"no process of {engine.label} is alive"
        jobs = unserved.unserved_jobs()
        return "jobs wait, and no process of an engine takes them" if jobs.exists() else ""

    def unserved_jobs(self, jobs: QuerySet[Job]) -> QuerySet[Job]:
        return unserved.unserved_jobs(jobs)

    def warn_of_unserved_jobs(self) -> None:
        unserved.warn_of_unserved_jobs()

    def start_in_server(self) -> None:
        dispatch_loop.start()

    def round_of_worker(self) -> Callable[[], object] | None:
        return dispatch_loop.run_round if has_engines() else None
