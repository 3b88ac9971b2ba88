"""Checks of the engines that run jobs: whether they answer, their processes, what waits for them, and a round trip."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from typing import Any, NamedTuple

from django.core.checks import CheckMessage, Error, Info, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Count, Sum
from django.utils import translation

from notifications import times
from notifications.contrib.engines import engine_of
from notifications.contrib.engines.interface import Engine
from notifications.contrib.engines.unserved import has_processes, live_processes, untaken_queues
from notifications.db import database_now
from notifications.extension import Check
from notifications.jobs import aliases_with_engines, task_backends
from notifications.management import (
    WaitCounts,
    paused_queues,
    queue_depths,
)
from notifications.management.diagnosis.checking import explain
from notifications.management.diagnosis.processes import measure_round_trip
from notifications.models import Job
from notifications.worker import DaemonExecutor

#: Seconds after which an engine that does not answer counts as away. The client of a broker may wait far longer.
PING_SECONDS = 8.0


class Ping(NamedTuple):
    """What became of asking an engine whether it answers."""

    engine: Engine
    #: Its sentence.
    answer: futures.Future[str]

    @property
    def problem(self) -> str:
        """Why the engine did not answer, "" if it did."""
        if not self.answer.done():
            return f"no answer within {PING_SECONDS:g} s"
        error = self.answer.exception()
        return "" if error is None else explain(error)


class EngineCheck(Check):
    """An engine does not answer, or its processes do not take jobs. Each runs a job that does nothing."""

    id = "engine"

    def find(self, examination: Any) -> Iterator[CheckMessage]:
        pings = ping_engines()
        for alias, ping in pings.items():
            yield check_engine(alias, ping)
        for alias, ping in pings.items():
            if isinstance(ping, Ping):
                yield check_round_trip(alias, ping, examination.timeout)


def make_checks() -> list[Check]:
    return [EngineCheck()]


def ping_engines() -> dict[str, Ping | ImproperlyConfigured]:
    """Ask all engines at the same time whether they answer, and return the answers by the aliases of their backends.

    Each is asked on a daemon thread, which is left behind if it does not answer.
    """
    pings: dict[str, Ping | ImproperlyConfigured] = {}
    for alias in aliases_with_engines():
        try:
            if engine := engine_of(alias):
                threads = DaemonExecutor(1, "notifications-engine-ping")
                pings[alias] = Ping(engine, threads.submit(engine.ping))
        except ImproperlyConfigured as exc:
            pings[alias] = exc
    futures.wait([ping.answer for ping in pings.values() if isinstance(ping, Ping)], PING_SECONDS)
    return pings


def check_engine(alias: str, ping: Ping | ImproperlyConfigured) -> CheckMessage:
    """Check that an engine answers, and that live processes of it take the jobs that are due."""
    depths, now = queue_depths(backend=alias).queues, database_now()
    has_waited = any(depth.has_waited(now) for depth in depths)
    figures: dict[str, Any] = {
        "backend": alias,
        "engine": task_backends.settings[alias]["OPTIONS"]["engine"],
        **count_waiting(alias, depths),
    }
    waiting = _describe_waiting(figures)
    if isinstance(ping, ImproperlyConfigured):
        hint = f"Correct OPTIONS['engine'] of TASKS[{alias!r}]. {waiting}"
        return Error(f"The engine of backend {alias} cannot be set up: {ping}", hint=hint, obj=figures)
    engine = ping.engine
    counts = live_processes(engine.process_name, now).aggregate(processes=Count("id"), load=Sum("load"))
    processes, running, has_idle = counts["processes"], counts["load"] or 0, engine.has_idle_processes()
    untaken = untaken_queues(engine, now) if processes or has_idle else []
    figures |= {
        "processes": processes,
        "running": running,
        "answers": not ping.problem,
        "untaken_queues": untaken,
    }
    kind: type[CheckMessage] = Info
    remedy = None
    if ping.problem:
        kind, message = Error, f"it does not answer: {ping.problem}."
        remedy = "Start its broker, or correct the address. Queued jobs are kept, and run when it answers."
    elif untaken:
        kind, message = Error, f"no live process takes the jobs of {', '.join(untaken)}."
        remedy = engine.start_advice(untaken[0])
    elif processes:
        message = f"{processes} processes work, {running} jobs running."
    elif has_idle:
        message = "its processes are idle."
    elif has_idle is None and not has_waited:
        message = "no job runs; whether its workers are alive is known only while they run jobs."
    else:
        kind, message = Error if has_waited else Warning, "none of its processes is alive."
        remedy = engine.start_advice()
    answer = ping.answer.result() if kind is Info else ""
    message = f"{engine.label} (backend {alias}): {message} {waiting} {answer}".strip()
    return kind(message, hint=remedy, obj=figures)


def count_waiting(alias: str, depths: list[Any]) -> dict[str, Any]:
    """Return how many jobs of a backend are queued, how many may run now, and for how long the oldest of these waits.

    ``quarantined`` are those of which a process runs one at a time, because theirs was lost.
    """
    quarantined = queue_depths((str(Job.Executor.QUARANTINED),), is_paused=False, backend=alias).queues
    due = [depth for depth in depths if not depth.is_paused]
    since = min((depth.oldest_since for depth in due if depth.oldest_since), default=None)
    return {
        "queued": sum(depth.total for depth in depths),
        "reasons": WaitCounts.of(depths),
        "quarantined": sum(depth.due for depth in quarantined),
        "due": sum(depth.due for depth in due),
        "oldest_waits_seconds": round(max(0.0, (times.now() - since).total_seconds()), 1) if since else 0.0,
    }


def _describe_waiting(figures: dict[str, Any]) -> str:
    with translation.override("en"):  # as all output of commands
        text = figures["reasons"].describe()
    if figures["quarantined"]:
        text += f", {figures['quarantined']} run one at a time in a process, because theirs was lost"
    if figures["due"]:
        text += f", {figures['due']} may run, the oldest waits for {figures['oldest_waits_seconds']:.0f} s"
    return f"{text}."


def check_round_trip(alias: str, ping: Ping, timeout: float) -> CheckMessage:
    """Have an engine run a job that does nothing, and wait for its end."""
    now = database_now()
    queue = _probed_queue(alias, ping.engine)
    reason = ""
    if ping.problem:
        reason = f"{ping.engine.label} does not answer"
    elif has_processes(ping.engine, now) is False:
        reason = f"no process of {ping.engine.label} is alive"
    elif queue in paused_queues():
        reason = f"the queue {queue} is paused"
    if reason:
        return Warning(f"Skipped: {reason}.", hint="See engine above.", id="round trip")
    return measure_round_trip(alias, queue, timeout, by=f" by {ping.engine.label}")


def _probed_queue(alias: str, engine: Engine) -> str:
    """Return a queue of the backend that a process of the engine takes, as far as that is known."""
    queues = sorted(task_backends[alias].queues) or sorted(engine.taken_queues() or {"default"})
    taken = engine.taken_queues()
    served = [name for name in queues if taken is None or name in taken] or queues
    return "default" if "default" in served else served[0]
