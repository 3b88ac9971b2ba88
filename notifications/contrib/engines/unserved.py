"""Queues in which jobs of engines wait, because no process of their engine is alive or takes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Sum

from notifications.contrib.engines import configured_engines, engine_of, label_of
from notifications.contrib.engines.interface import Engine
from notifications.db import database, database_now, is_lease_valid
from notifications.jobs import aliases_with_engines
from notifications.models import Job, Worker
from notifications.realtime import waiting_jobs


def live_processes(engine_name: str, now: datetime) -> Any:
    """Return a queryset of the live workers in processes of an engine, by its ``process_name``."""
    rows = Worker.objects.using(database())
    return rows.filter(is_lease_valid(now), queues=f"engine:{engine_name}").order_by("id")


def has_processes(engine: Engine, now: datetime) -> bool | None:
    """Return whether a process of an engine is alive, None if that is not known."""
    return bool(live_processes(engine.process_name, now).exists()) or engine.has_idle_processes()


def taken_queues() -> dict[str, set[str]]:
    """See ``Dispatch.taken_queues()``. Without a live process that is none; else the engine may know it."""
    now = database_now()
    taken = {alias: _taken_queues(alias, now) for alias in aliases_with_engines()}
    return {alias: names for alias, names in taken.items() if names is not None}


def _taken_queues(alias: str, now: datetime) -> set[str] | None:
    """Return the queues that live processes of the engine of a backend take, None if that is not known."""
    try:
        engine = engine_of(alias)
    except ImproperlyConfigured:
        engine = None
    return engine.taken_queues() if engine and has_processes(engine, now) else set()


def untaken_queues(engine: Engine, now: datetime) -> list[str]:
    """Return queues whose jobs no live process of an engine takes, at most 10.

    That is what the engine says. If it does not know, it is queues in which jobs have waited for long and of which none
    runs, while processes of the engine are idle or have claimed jobs of other queues that were queued later.
    """
    jobs, taken = Job.objects.using(database()), engine.taken_queues()
    running = jobs.filter(state=Job.State.RUNNING, backend=engine.alias)
    served = set(running.values_list("queue_name", flat=True)) if taken is None else taken
    waiting = waiting_jobs({engine.alias: served}, now)
    if taken is None and live_processes(engine.process_name, now).aggregate(load=Sum("load"))["load"]:
        waiting = waiting.filter(queued_at__lt=running.order_by("-queued_at").values("queued_at")[:1])
    return list(waiting.order_by("queue_name").values_list("queue_name", flat=True).distinct()[:10])


def describe_unserved(job: Job) -> tuple[str, str]:
    """See ``Dispatch.describe_unserved()``."""
    try:
        engine = engine_of(job.backend)
        remedy = engine.start_advice(job.queue_name) if engine else ""
    except ImproperlyConfigured as exc:
        remedy = str(exc)
    return f"No process of {label_of(job.backend)} takes queue {job.queue_name}", remedy


def find_missing_process() -> str:
    """See ``Dispatch.find_missing_process()``."""
    now = database_now()
    for engine in configured_engines().values():
        is_alive = has_processes(engine, now)
        if is_alive is False:
            return f"no process of {engine.label} is alive"
        if is_alive is None and _has_unserved_jobs(engine.alias, now):
            return f"jobs wait, and no process of {engine.label} takes them"
    return ""


def _has_unserved_jobs(alias: str, now: datetime) -> bool:
    taken = _taken_queues(alias, now)
    return taken is not None and waiting_jobs({alias: taken}, now).exists()
