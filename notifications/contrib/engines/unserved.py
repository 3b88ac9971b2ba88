"""Jobs of engines that wait although they are due, because no process of their engine is alive or takes their queue."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Exists, OuterRef, Q, QuerySet, Sum

from notifications.contrib.engines import configured_engines, engine_of, label_of
from notifications.contrib.engines.interface import Engine
from notifications.db.clock import database_now, is_lease_valid
from notifications.db.transactions import database
from notifications.jobs.claiming import candidates
from notifications.jobs.claiming.backlog import find_first
from notifications.jobs.claiming.candidates import MIN_WAIT_SECONDS
from notifications.jobs.claiming.executors import CLAIMED_EXECUTORS
from notifications.jobs.claiming.queues import paused_queues
from notifications.jobs.claiming.sources import Source
from notifications.jobs.declaring.tasks import aliases_with_engines
from notifications.models import Job, Worker

logger = logging.getLogger("notifications.jobs")

_has_warned = False


def live_processes(engine_name: str, now: datetime) -> Any:
    """Return a queryset of the live workers in processes of an engine, by its ``process_name``."""
    rows = Worker.objects.using(database())
    return rows.filter(is_lease_valid(now), queues=f"engine:{engine_name}").order_by("id")


def has_processes(engine: Engine, now: datetime) -> bool | None:
    """Return whether a process of an engine is alive, None if that is not known."""
    return bool(live_processes(engine.process_name, now).exists()) or engine.has_idle_processes()


def due_jobs(alias: str, now: datetime) -> Any:
    """Return a queryset of the queued jobs of a backend with an engine that may run now, at limits or not."""
    queued = Job.objects.using(database()).filter(
        Q(run_after=None) | Q(run_after__lte=now),
        state=Job.State.QUEUED,
        executor__in=CLAIMED_EXECUTORS,
        backend=alias,
    )
    return queued.exclude(queue_name__in=paused_queues())


def unserved_jobs(jobs: QuerySet[Job] | None = None) -> QuerySet[Job]:
    """Return a queryset of jobs, due for over ``MIN_WAIT_SECONDS``, of whose engine no process is alive."""
    jobs = Job.objects.using(database()) if jobs is None else jobs
    now = database_now()
    aliases = tuple(alias for alias in aliases_with_engines() if not _is_alive(alias, now))
    # By index lookups: usually there are none, and no backlog is read.
    if not aliases or not (due := candidates.due_queues(Source(backends=aliases))):
        return jobs.none()
    latest = now - timedelta(seconds=MIN_WAIT_SECONDS)
    return jobs.filter(
        Q(run_after=None) | Q(run_after__lt=latest),
        state=Job.State.QUEUED,
        executor__in=CLAIMED_EXECUTORS,
        backend__in=aliases,
        queue_name__in={queue.name for queue in due},
        queued_at__lt=latest,
    )


def untaken_queues(engine: Engine, now: datetime) -> list[str]:
    """Return queues whose jobs no live process of an engine takes, at most 10.

    That is what the engine says. If it does not know, it is queues in which jobs have waited for long and of which none
    runs, while processes of the engine are idle or have claimed jobs of other queues that were queued later.
    """
    jobs = Job.objects.using(database())
    latest = now - timedelta(seconds=MIN_WAIT_SECONDS)
    waiting = due_jobs(engine.alias, now).filter(queued_at__lt=latest)
    taken = engine.taken_queues()
    if taken is not None:
        waiting = waiting.exclude(queue_name__in=taken)
    else:
        running = jobs.filter(state=Job.State.RUNNING, backend=engine.alias)
        waiting = waiting.exclude(queue_name__in=running.values("queue_name"))
        if live_processes(engine.process_name, now).aggregate(load=Sum("load"))["load"]:
            waiting = waiting.filter(Exists(running.filter(queued_at__gt=OuterRef("queued_at"))))
    return list(waiting.order_by("queue_name").values_list("queue_name", flat=True).distinct()[:10])


def warn_of_unserved_jobs() -> None:
    """Log one warning when there are unserved jobs, and the next one only after there were none."""
    global _has_warned
    job = find_first(unserved_jobs().only("backend"))
    if job and not _has_warned:
        logger.warning(
            "No process of %s is alive: job %s has waited for over %g s. %s",
            label_of(job.backend),
            job.pk,
            MIN_WAIT_SECONDS,
            start_advice(job.backend),
        )
    _has_warned = job is not None


def start_advice(alias: str) -> str:
    """Return one sentence on how to start a process of the engine of a backend."""
    try:
        engine = engine_of(alias)
    except ImproperlyConfigured as exc:
        return str(exc)
    return engine.start_advice() if engine else ""


def _is_alive(alias: str, now: datetime) -> bool:
    try:
        engine = engine_of(alias)
    except ImproperlyConfigured:
        return False
    return engine is not None and bool(has_processes(engine, now))


def find_missing_process() -> str:
    """See ``Dispatch.find_missing_process()``."""
    now = database_now()
    for engine in configured_engines().values():
        if has_processes(engine, now) is False:
            return f"no process of {engine.label} is alive"
    return "jobs wait, and no process of an engine takes them" if unserved_jobs().exists() else ""
