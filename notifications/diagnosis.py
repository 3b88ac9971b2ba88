"""What ``manage.py doctor`` looks at: what can only be known by asking the database, the layer and the workers."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import django
from django.db import DatabaseError, InterfaceError
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest
from django.utils import timezone

from notifications import streams
from notifications.compat import task_backends
from notifications.conf import settings
from notifications.exceptions import JobFailed
from notifications.jobs.backend import JobBackend
from notifications.jobs.joining import join
from notifications.jobs.probe import probe
from notifications.jobs.queues import paused
from notifications.jobs.rows import clock
from notifications.models import Job, Notification, Worker
from notifications.realtime import doorbell, doorbell_layer, origin
from notifications.transactions import connection, database

OK, WARNING, ERROR = "ok", "warning", "error"
#: Seconds: clocks that differ by more, a job that waits longer without a worker, and a probe that takes longer, are
#: said. A ring that is lost costs 5 s, until the position check.
SKEW, WAITS, SLOW = 2.0, 10.0, 3.0
#: Users whose unread count is wrong that are named.
NAMED = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """``what`` was looked at, how it is (``state``: ok, warning or error), in words, and what to do about it."""

    what: str
    state: str
    words: str
    remedy: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


def diagnose(*, patience: float = 10.0, page: str | None = None) -> Iterator[Finding]:
    """Look at one thing after the other. Ends early where nothing behind it could be looked at.

    ``patience`` are the seconds that a job may take that does nothing. ``page`` is the origin of a page, such as
    ``https://example.com``: would it be let in?
    """
    yield versions()
    for look in (reach, migrated):
        finding = guarded(look)
        yield finding
        if finding.state == ERROR:
            return
    for look in (clocks, numbers, counts, layer, workers, outbound):
        yield guarded(look)
    if page is not None:
        yield admitted(page)
    yield guarded(lambda: round_trip(patience))


def guarded(look: Callable[[], Finding]) -> Finding:
    """Look; a database that does not answer is a finding too."""
    try:
        return look()
    except (DatabaseError, InterfaceError) as exc:
        reason = " ".join(str(exc).split())[:300]
        return Finding(
            what="database",
            state=ERROR,
            words=f"It refuses: {reason}.",
            remedy="Look at DATABASES, at the database's own log, and at the disk.",
        )


def versions() -> Finding:
    """What is installed, and what is known to be wrong with it."""
    found = {"python": platform.python_version(), "django": django.get_version()}
    for name in ("channels", "daphne", "uvicorn", "psycopg", "channels_redis", "redis", "aiohttp"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    words = ", ".join(f"{name} {number}" for name, number in found.items())
    if "channels_redis" in doorbell_layer.configured() and int(found.get("redis", "0").split(".")[0]) >= 8:
        return Finding(
            what="versions",
            state=WARNING,
            words=f"redis {found['redis']} closes the layer's idle connections every 5 s.",
            remedy='Install redis before 8: pip install "redis>=7.4,<8".',
            figures=found,
        )
    return Finding(what="versions", state=OK, words=words, figures=found)


def reach() -> Finding:
    """Whether the database answers, and how quickly."""
    db = connection()
    times = []
    with db.cursor() as cursor:
        for _ in range(5):
            start = time.perf_counter()
            cursor.execute("SELECT 1")
            cursor.fetchone()
            times.append(time.perf_counter() - start)
        figures: dict[str, Any] = {"vendor": db.vendor, "alias": db.alias, "ms": ms(statistics.median(times))}
        if db.vendor == "sqlite":
            cursor.execute("PRAGMA journal_mode")
            figures["journal_mode"] = cursor.fetchone()[0]
    words = f"{db.vendor} ({db.alias}) answers in {figures['ms']} ms."
    if figures.get("journal_mode") not in (None, "wal", "memory"):
        return Finding(
            what="database",
            state=WARNING,
            words=f"{words} Its journal mode is {figures['journal_mode']}: readers and writers wait for one another.",
            remedy='Add "PRAGMA journal_mode=WAL" to init_command in the OPTIONS of DATABASES.',
            figures=figures,
        )
    return Finding(what="database", state=OK, words=words, figures=figures)


def migrated() -> Finding:
    """Whether the tables are those of this version."""
    executor = MigrationExecutor(connection())
    leaves = [leaf for leaf in executor.loader.graph.leaf_nodes() if leaf[0] == "notifications"]
    missing = [migration.name for migration, _ in executor.migration_plan(leaves)]
    if missing:
        return Finding(
            what="tables",
            state=ERROR,
            words=f"Migrations are missing: {', '.join(missing)}.",
            remedy="Run: manage.py migrate.",
            figures={"missing": missing},
        )
    return Finding(what="tables", state=OK, words="All migrations of notifications are applied.")


def clocks() -> Finding:
    """Whether the database's clock, by which leases are counted, is about ours."""
    skew = (clock() - datetime.now(UTC)).total_seconds()
    figures = {"seconds": round(skew, 3)}
    if abs(skew) > SKEW:
        return Finding(
            what="clock",
            state=WARNING,
            words=f"The database's clock is {skew:+.1f} s beside the one of this machine.",
            remedy="Let both machines keep time by NTP: times in the inbox and of delayed jobs are wrong otherwise.",
            figures=figures,
        )
    return Finding(what="clock", state=OK, words="The database's clock is ours.", figures=figures)


def numbers() -> Finding:
    """Whether somebody numbers what was left over: each web process and each worker does, once a second."""
    waiting = rows_without_number()
    until = time.monotonic() + SLOW
    while (left := waiting & rows_without_number()) and time.monotonic() < until:
        time.sleep(0.25)
    if left:
        return Finding(
            what="numbers",
            state=ERROR,
            words=f"{len(left)} changes have waited for their number for {SLOW:g} s: nobody is told of them.",
            remedy="Start a web process or a worker; where there is one, look for a transaction that holds their rows.",
            figures={"waiting": len(left)},
        )
    return Finding(what="numbers", state=OK, words="No change waits for its number.", figures={"waiting": 0})


def rows_without_number() -> set[Any]:
    return {
        id
        for model in (Notification, Job)
        for id in model.objects.using(database()).filter(seq__isnull=True).values_list("id", flat=True)[:1000]
    }


def counts() -> Finding:
    """Whether the number on each bell is that of the unread notifications."""
    wrong = streams.miscounted()
    if wrong:
        named = ", ".join(map(str, list(wrong)[:NAMED])) + (" and others" if len(wrong) > NAMED else "")
        return Finding(
            what="unread",
            state=ERROR,
            words=f"The number on the bell is wrong for {len(wrong)} users: {named}.",
            remedy="Run: manage.py doctor --recount. Then find out who changed rows past this app.",
            figures={"wrong": {str(user): list(pair) for user, pair in wrong.items()}},
        )
    return Finding(what="unread", state=OK, words="The number on every bell is right.")


def layer() -> Finding:
    """By which way processes hear of one another, and whether a channel layer brings what it takes."""
    way = doorbell.the_way()
    path = doorbell_layer.configured()
    if not path:
        return Finding(what="doorbell", state=OK, words=f"By {way}.", figures={"way": way})
    try:
        seconds = doorbell_layer.try_out()
    except Exception as exc:  # whatever a layer raises
        return Finding(
            what="doorbell",
            state=ERROR,
            words=f"The {way} does not bring a message: {' '.join(str(exc).split())[:300] or type(exc).__name__}.",
            remedy="Start it, or correct CHANNEL_LAYERS. Until then news take up to 5 s.",
            figures={"way": way},
        )
    return Finding(
        what="doorbell",
        state=OK,
        words=f"The {way} brings a message in {ms(seconds)} ms.",
        figures={"way": way, "ms": ms(seconds)},
    )


def workers() -> Finding:
    """Who runs jobs, and how many wait for how long."""
    now = clock()
    live = list(Worker.objects.using(database()).filter(lease_until__gte=now).order_by("id"))
    jobs = Job.objects.using(database())
    queued = jobs.filter(state=Job.State.QUEUED).exclude(queue_name__in=paused())
    due = queued.filter(run_after__isnull=True) | queued.filter(run_after__lte=now)
    oldest = due.order_by("queued_at").values_list("queued_at", "run_after").first()
    waits = max(0.0, (timezone.now() - max(filter(None, oldest))).total_seconds()) if oldest else 0.0
    figures = {
        "workers": len(live),
        "running": sum(worker.load for worker in live),
        "places": sum(worker.concurrency for worker in live),
        "due": due.count(),
        "oldest_waits_seconds": round(waits, 1),
        "paused": list(paused()),
    }
    words = f"{len(live)} live, {figures['running']} of {figures['places']} places taken; {figures['due']} jobs wait"
    words += f", the oldest for {waits:.0f} s." if figures["due"] else "."
    if live:
        return Finding(what="workers", state=OK, words=words, figures=figures)
    return Finding(
        what="workers",
        state=ERROR if waits > WAITS else WARNING,
        words=f"No worker is alive; {figures['due']} jobs wait"
        + (f", the oldest for {waits:.0f} s." if figures["due"] else "."),
        remedy="Start one: manage.py run_jobs, or set EMBEDDED_WORKER and serve by ASGI.",
        figures=figures,
    )


def outbound() -> Finding:
    """What the calls of live workers to other servers are doing, as of their last renewal."""
    live = Worker.objects.using(database()).filter(lease_until__gte=clock()).order_by("id")
    said = {str(id): json.loads(text) for id, text in live.values_list("id", "outbound") if text}
    open_ = sorted(
        {at["origin"] for state in said.values() for at in state["origins"] if at["circuit"] != "closed"}
    )
    if open_:
        return Finding(
            what="outbound",
            state=WARNING,
            words=f"Not called now, because they fail: {', '.join(open_)}.",
            remedy="Nothing, if the fault is theirs: they are tried again by themselves.",
            figures={"workers": said},
        )
    busy, waiting = (sum(state[name] for state in said.values()) for name in ("busy", "waiting"))
    words = (
        f"{busy} calls under way, {waiting} waiting; every circuit is closed." if said else "No calls yet."
    )
    return Finding(what="outbound", state=OK, words=words, figures={"workers": said})


def admitted(page: str) -> Finding:
    """Whether a page of this origin may open a WebSocket where it was itself got from."""
    found = origin.parts(page)
    if found is None:
        return Finding(
            what="origin",
            state=ERROR,
            words=f"{page!r} is no origin.",
            remedy="An origin is scheme, host and port of a page: https://example.com",
        )
    request = HttpRequest()
    host = page.split("://")[1]
    request.META.update({"HTTP_HOST": host, "SERVER_NAME": found[1], "SERVER_PORT": found[2]})
    request._get_scheme = lambda: found[0]  # type: ignore[method-assign]
    listed = found in map(origin.parts, settings.ORIGINS)
    if listed or origin.is_allowed([page.encode()], request):
        return Finding(what="origin", state=OK, words=f"Pages of {page} may connect.")
    return Finding(
        what="origin",
        state=ERROR,
        words=f"Pages of {page} may not connect: the server does not answer for that host.",
        remedy="Add the host to ALLOWED_HOSTS; for pages of another host, their origin to NOTIFICATIONS['ORIGINS'].",
    )


def round_trip(patience: float) -> Finding:
    """Ask for a job that does nothing, and wait for its end: the queue, a worker, the doorbell both ways."""
    now = clock()
    live = Worker.objects.using(database()).filter(lease_until__gte=now)
    served = [set(filter(None, queues.split(","))) for queues in live.values_list("queues", flat=True)]
    queue = "default" if any(not queues or "default" in queues for queues in served) else None
    if served and queue is None:
        queue = sorted(served[0])[0]
    if queue is None or queue in paused():
        why = f"the queue {queue} is paused" if queue else "there is no worker"
        return Finding(what="round trip", state=WARNING, words=f"Not tried: {why}.", remedy="See above.")
    alias = next((alias for alias in task_backends if isinstance(task_backends[alias], JobBackend)), None)
    if alias is None:
        return Finding(
            what="round trip",
            state=WARNING,
            words="Not tried: no backend in TASKS is notifications.jobs.backend.JobBackend.",
            remedy="See manage.py check.",
        )
    start = time.perf_counter()
    try:
        join(probe.using(backend=alias, queue_name=queue).enqueue(), patience, listen=doorbell.listen)
    except TimeoutError:
        return Finding(
            what="round trip",
            state=ERROR,
            words=f"A job that does nothing was not done within {patience:g} s.",
            remedy="Look at the log of the workers. Where all their places are taken, start another one.",
        )
    except JobFailed as exc:
        return Finding(
            what="round trip",
            state=ERROR,
            words=f"The probe failed: {exc}",
            remedy="See manage.py jobs list.",
        )
    seconds = time.perf_counter() - start
    figures = {"ms": ms(seconds)}
    words = f"A job was asked for, run and heard of in {figures['ms']} ms."
    if seconds > SLOW:
        return Finding(
            what="round trip",
            state=WARNING,
            words=f"{words} Rings seem to be lost, or the workers are busy.",
            remedy="Compare the way of the doorbell above with the one that the other processes log at their start.",
            figures=figures,
        )
    return Finding(what="round trip", state=OK, words=words, figures=figures)


def ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
