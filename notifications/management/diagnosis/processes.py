"""Checks of the processes: doorbell, workers, outbound calls, and the round trip of a job."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Info, Warning

from notifications import times
from notifications.compat import task_backends
from notifications.db.clock import database_now, is_lease_valid
from notifications.db.transactions import database
from notifications.exceptions import JobCancelled, JobDoesNotExist, JobFailed
from notifications.jobs.claiming.backlog import queue_depths
from notifications.jobs.claiming.candidates import MIN_WAIT_SECONDS
from notifications.jobs.claiming.queues import paused_queues
from notifications.jobs.claiming.sources import builtin_source
from notifications.jobs.claiming.unserved import claiming_workers
from notifications.jobs.claiming.waiting_reasons import WaitCounts, describe_depths
from notifications.jobs.declaring.tasks import has_engine
from notifications.jobs.probe import probe
from notifications.management.diagnosis.checking import Examination, explain, register
from notifications.models import Worker
from notifications.readiness import builtin_aliases, worker_advice
from notifications.realtime import doorbell
from notifications.realtime.doorbell import channel_layer
from notifications.worker.joining import join

#: Seconds that a round trip may take. A lost ring costs 5 s, until the position check.
SLOW_ROUND_TRIP_SECONDS = 3.0
#: Queues that a message names at most.
MAX_QUEUES_NAMED = 10


@register("processes", "doorbell")
def check_doorbell(examination: Examination) -> Iterator[CheckMessage]:
    """Check the transport of the doorbell: a channel layer, and PostgreSQL, must deliver a message."""
    transport = doorbell.doorbell.transport
    figures: dict[str, Any] = {"way": transport.name}
    if transport.measure_round_trip is None:
        yield Info(f"Rings go by {transport.name}.", obj=figures)
        return
    try:
        seconds = transport.measure_round_trip()
    except Exception as exc:  # whatever a layer raises
        message = f"The {transport.name} did not deliver a message: {explain(exc)}."
        if channel_layer.configured_path():
            hint = "Start it, or correct CHANNEL_LAYERS. Until then changes take up to 5 s to be shown."
            yield Error(message, hint=hint, obj=figures)
        else:
            hint = (
                "Behind a pooler in transaction mode, such as PgBouncer, configure a channel layer, or accept that "
                "changes of other processes take up to 5 s to be shown."
            )
            yield Warning(message, hint=hint, obj=figures)
    else:
        figures["ms"] = ms = round(seconds * 1000, 1)
        yield Info(f"The {transport.name} delivers a message in {ms} ms.", obj=figures)


@register("processes", "workers")
def check_workers(examination: Examination) -> Iterator[CheckMessage]:
    """Check that live built-in workers take the jobs that are due, except those of engines."""
    now = database_now()
    live = list(builtin_workers().filter(is_lease_valid(now)).order_by("id"))
    found = queue_depths(is_paused=False, source=builtin_source())
    depths = found.queues
    since = min((depth.oldest_since for depth in depths if depth.oldest_since), default=None)
    waits = max(0.0, (times.now() - since).total_seconds()) if since else 0.0
    figures = {
        "workers": len(live),
        "running": sum(worker.load for worker in live),
        "slots": sum(worker.concurrency for worker in live),
        "due": sum(depth.due for depth in depths),
        "reasons": WaitCounts.of(depths),
        "oldest_waits_seconds": round(waits, 1),
        "paused": list(paused_queues()),
    }
    waiting = describe_depths(found)
    waiting += f", the oldest for {waits:.0f} s." if figures["due"] else "."
    message = f"{len(live)} live, {figures['running']} of {figures['slots']} slots in use; {waiting}"
    if stuck := sum(worker.stuck_calls for worker in live):
        message += f" Calls of code of the project that do not return: {stuck}."
    unserved = [depth.name for depth in depths if depth.unserved]
    if live and (names := unserved[:MAX_QUEUES_NAMED]):
        yield Error(
            f"No live worker takes the jobs of {', '.join(names)}; {message}",
            hint="Start a worker for them: manage.py run_jobs, with --queue for each, or without --queue for all.",
            obj=figures,
        )
    elif live:
        yield Info(message, obj=figures)
    elif not figures["due"] and not builtin_aliases():
        yield Info("None is needed: engines run all jobs.", obj=figures)
    else:
        # As readiness says, by which a load balancer decides: workers of an engine may take jobs, if there is one.
        kind = Warning if waits <= MIN_WAIT_SECONDS and live_claimers().exists() else Error
        yield kind(f"No worker is alive; {waiting}", hint=worker_advice(), obj=figures)


@register("processes", "outbound")
def check_outbound(examination: Examination) -> Iterator[CheckMessage]:
    """Check the circuits of outbound calls of live workers, as of the last renewal of their leases."""
    live = Worker.objects.using(database()).filter(is_lease_valid(database_now())).order_by("id")
    overviews = {str(id): json.loads(text) for id, text in live.values_list("id", "outbound") if text}
    open_ = sorted(
        {at["origin"] for state in overviews.values() for at in state["origins"] if at["circuit"] != "closed"}
    )
    figures = {"workers": overviews}
    if open_:
        yield Warning(
            f"The circuit is open, because calls failed, for {', '.join(open_)}.",
            hint="If those servers are at fault, wait: they are called again automatically.",
            obj=figures,
        )
    elif overviews:
        busy, waiting = (sum(state[name] for state in overviews.values()) for name in ("busy", "waiting"))
        yield Info(f"{busy} calls in progress, {waiting} waiting; every circuit is closed.", obj=figures)
    else:
        yield Info("No calls yet.", obj=figures)


@register("processes", "round trip")
def check_round_trip(examination: Examination) -> Iterator[CheckMessage]:
    """Enqueue a job that does nothing and wait for its end: by queue, worker, and doorbell in both directions."""
    if not builtin_aliases():
        if not any(map(has_engine, task_backends.settings)):
            message = "Skipped: no backend in TASKS is notifications.jobs.backend.JobBackend."
            yield Warning(message, hint="Run manage.py check.")
        return
    live = builtin_workers().filter(is_lease_valid(database_now()))
    served = [set(filter(None, queues.split(","))) for queues in live.values_list("queues", flat=True)]
    queue = "default" if any(not queues or "default" in queues for queues in served) else None
    if served and queue is None:
        queue = min(served[0])
    if queue is None:
        yield Warning("Skipped: there is no worker.", hint="See workers above.")
    elif queue in paused_queues():
        yield Warning(f"Skipped: the queue {queue} is paused.", hint="See workers above.")
    else:
        yield measure_round_trip(builtin_aliases()[0], queue, examination.timeout)


def live_claimers() -> Any:
    """Return a queryset of the live workers that run jobs: built-in ones, and processes of engines."""
    return claiming_workers().filter(is_lease_valid(database_now()))


def builtin_workers() -> Any:
    """Return a queryset of the workers that claim jobs by themselves, which those in processes of engines do not."""
    return claiming_workers().exclude(queues__startswith="engine:")


def measure_round_trip(alias: str, queue: str, timeout: float, by: str = "") -> CheckMessage:
    """Enqueue a job that does nothing on a backend and wait for its end. ``by`` names the engine in the message."""
    start = time.perf_counter()
    try:
        join(probe.using(backend=alias, queue_name=queue).enqueue(), timeout, listen=doorbell.listen)
    except TimeoutError:
        return Error(
            f"A job that does nothing did not finish{by} within {timeout:g} s.",
            hint="Check the log of the workers. If all their slots are in use, start another worker.",
            id="round trip",
        )
    except (JobFailed, JobCancelled, JobDoesNotExist) as exc:
        hint = "Run manage.py notifications jobs list."
        return Error(f"The job failed{by}: {exc}", hint=hint, id="round trip")
    seconds = time.perf_counter() - start
    figures = {"ms": round(seconds * 1000, 1)}
    message = f"A job was enqueued, executed{by} and reported in {figures['ms']} ms."
    if seconds <= SLOW_ROUND_TRIP_SECONDS:
        return Info(message, obj=figures, id="round trip")
    return Warning(
        f"{message} Rings are lost, or the workers are busy.",
        hint="Compare the doorbell above with the one that the other processes log at their start.",
        obj=figures,
        id="round trip",
    )
