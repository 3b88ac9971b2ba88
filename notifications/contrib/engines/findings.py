"""Checks of the engines that run jobs: whether they answer, their processes, what waits for them, and a round trip."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.models import Count, Min, Q, Sum
from django.db.models.functions import Coalesce, Greatest

from notifications import times
from notifications.compat import task_backends
from notifications.contrib.engines import engine_of
from notifications.contrib.engines.interface import Engine
from notifications.contrib.engines.unserved import (
    due_jobs,
    has_processes,
    live_processes,
    untaken_queues,
)
from notifications.db import keyset
from notifications.db.clock import database_now
from notifications.db.transactions import database
from notifications.jobs.claiming.candidates import MIN_WAIT_SECONDS
from notifications.jobs.claiming.executors import CLAIMED_EXECUTORS, QUARANTINED, WOKEN
from notifications.jobs.claiming.queues import paused_queues
from notifications.jobs.declaring.tasks import has_engine
from notifications.management.diagnosis.finding import ERROR, OK, WARNING, Finding, run_check
from notifications.management.diagnosis.processes import measure_round_trip
from notifications.models import Job

#: Seconds after which an engine that does not answer counts as away. The client of a broker may wait far longer.
PING_SECONDS = 8.0
#: Queued jobs of a backend that are counted at most.
MAX_COUNTED = 100_000


@dataclass(slots=True)
class Ping:
    """What became of asking an engine whether it answers: its sentence or an exception, neither while it is pending."""

    engine: Engine
    answer: str | None = None
    error: BaseException | None = None
    is_done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            self.answer = self.engine.ping()
        except BaseException as exc:  # the client of a broker may raise anything
            self.error = exc
        finally:
            self.is_done.set()
            connections.close_all()

    @property
    def problem(self) -> str:
        """Why the engine did not answer, "" if it did."""
        if self.error is not None:
            return " ".join(str(self.error).split())[:300] or type(self.error).__name__
        return "" if self.is_done.is_set() else f"no answer within {PING_SECONDS:g} s"


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """The queued jobs of a backend: all, those that may run now, and for how long the oldest of these waits."""

    queued: int
    #: Jobs whose process was lost, of which a process runs one at a time.
    quarantined: int
    due: int
    oldest_seconds: float

    def __str__(self) -> str:
        text = f"{self.queued} jobs are queued"
        if self.quarantined:
            text += f", {self.quarantined} run one at a time in a process, because theirs was lost"
        return text + (
            f", {self.due} may run, the oldest waits for {self.oldest_seconds:.0f} s." if self.due else "."
        )


def find_engines(timeout: float) -> Iterator[Finding]:
    """Yield a finding for each engine, and one for a round trip of a job by each that could be set up."""
    pings = ping_engines()
    for alias, ping in pings.items():
        yield run_check(partial(check_engine, alias, ping))
    for alias, ping in pings.items():
        if isinstance(ping, Ping):
            yield run_check(partial(check_round_trip, alias, ping, timeout))


def ping_engines() -> dict[str, Ping | ImproperlyConfigured]:
    """Ask all engines at the same time whether they answer, and return the answers by the aliases of their backends.

    Each is asked on a daemon thread, which is left behind if it does not answer.
    """
    pings: dict[str, Ping | ImproperlyConfigured] = {}
    for alias in filter(has_engine, task_backends.settings):
        try:
            if engine := engine_of(alias):
                pings[alias] = Ping(engine)
        except ImproperlyConfigured as exc:
            pings[alias] = exc
    started = [ping for ping in pings.values() if isinstance(ping, Ping)]
    for ping in started:
        threading.Thread(target=ping.run, name="notifications-engine-ping", daemon=True).start()
    deadline = time.monotonic() + PING_SECONDS
    for ping in started:
        ping.is_done.wait(max(0.0, deadline - time.monotonic()))
    return pings


def check_engine(alias: str, ping: Ping | ImproperlyConfigured) -> Finding:
    """Check that an engine answers, and that live processes of it take the jobs that are due."""
    waiting = count_waiting(alias)
    figures: dict[str, Any] = {
        "backend": alias,
        "engine": task_backends.settings[alias]["OPTIONS"]["engine"],
        "queued": waiting.queued,
        "quarantined": waiting.quarantined,
        "due": waiting.due,
        "oldest_waits_seconds": waiting.oldest_seconds,
    }
    if isinstance(ping, ImproperlyConfigured):
        return Finding(
            "engine",
            ERROR,
            f"The engine of backend {alias} cannot be set up: {ping}",
            f"Correct OPTIONS['engine'] of TASKS[{alias!r}]. {waiting}",
            figures,
        )
    engine = ping.engine
    now = database_now()
    live = live_processes(engine.process_name, now)
    counts = live.aggregate(processes=Count("id"), load=Sum("load"))
    has_idle = engine.has_idle_processes()
    untaken = untaken_queues(engine, now) if counts["processes"] or has_idle else []
    figures |= {
        "processes": counts["processes"],
        "running": counts["load"] or 0,
        "answers": not ping.problem,
        "untaken_queues": untaken,
    }
    message = f"{engine.label} (backend {alias}): "
    if ping.problem:
        return Finding(
            "engine",
            ERROR,
            f"{message}it does not answer: {ping.problem}. {waiting}",
            "Start its broker, or correct the address. Queued jobs are kept, and run when it answers.",
            figures,
        )
    is_known = bool(counts["processes"]) or has_idle is not None
    if not is_known and waiting.oldest_seconds <= MIN_WAIT_SECONDS:
        message += "no job runs; whether its workers are alive is known only while they run jobs. "
        return Finding("engine", OK, f"{message}{waiting} {ping.answer}".strip(), figures=figures)
    if not counts["processes"] and not has_idle:
        return Finding(
            "engine",
            ERROR if waiting.oldest_seconds > MIN_WAIT_SECONDS else WARNING,
            f"{message}none of its processes is alive. {waiting}",
            engine.start_advice(),
            figures,
        )
    if untaken:
        return Finding(
            "engine",
            ERROR,
            f"{message}no live process takes the jobs of {', '.join(untaken)}. {waiting}",
            engine.start_advice(untaken[0]),
            figures,
        )
    message += (
        f"{counts['processes']} processes work, {figures['running']} jobs running. {waiting}"
        if counts["processes"]
        else f"its processes are idle. {waiting}"
    )
    return Finding("engine", OK, " ".join(filter(None, (message, ping.answer))), figures=figures)


def count_waiting(alias: str) -> Waiting:
    """Count the queued jobs of a backend with an engine, at most ``MAX_COUNTED``."""
    since = Greatest("queued_at", Coalesce("run_after", "queued_at"))
    due = due_jobs(alias, database_now())
    found = due[:MAX_COUNTED].aggregate(
        due=Count("id"),
        since=Min(since),
        quarantined=Count("id", filter=Q(executor__in=(QUARANTINED, WOKEN[QUARANTINED]))),
    )
    queued = Job.objects.using(database()).filter(
        state="queued", backend=alias, executor__in=CLAIMED_EXECUTORS
    )
    return Waiting(
        queued=keyset.count_rows(queued, MAX_COUNTED),
        quarantined=found["quarantined"],
        due=found["due"],
        oldest_seconds=_seconds_since(found["since"], times.now()),
    )


def _seconds_since(moment: datetime | None, now: datetime) -> float:
    return round(max(0.0, (now - moment).total_seconds()), 1) if moment else 0.0


def check_round_trip(alias: str, ping: Ping, timeout: float) -> Finding:
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
        return Finding("round trip", WARNING, f"Skipped: {reason}.", "See engine above.")
    return measure_round_trip(alias, queue, timeout, by=f" by {ping.engine.label}")


def _probed_queue(alias: str, engine: Engine) -> str:
    """Return a queue of the backend that a process of the engine takes, as far as that is known."""
    queues = sorted(task_backends[alias].queues) or sorted(engine.taken_queues() or {"default"})
    taken = engine.taken_queues()
    served = [name for name in queues if taken is None or name in taken] or queues
    return "default" if "default" in served else served[0]
