"""The processes: what is installed, who hears of whom, who runs jobs, and does a job that does nothing come back."""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import PackageNotFoundError, version

import django
from django.db.models import Min
from django.db.models.functions import Coalesce, Greatest
from django.http import HttpRequest

from notifications import times
from notifications.compat import task_backends
from notifications.conf import settings
from notifications.db.transactions import database
from notifications.diagnosis.finding import ERROR, OK, WARNING, Finding, ms
from notifications.exceptions import JobCancelled, JobDoesNotExist, JobFailed
from notifications.jobs.claiming.queues import paused_queues
from notifications.jobs.claiming.stranded import MIN_WAIT_SECONDS, unserved_jobs
from notifications.jobs.joining import join
from notifications.jobs.probe import probe
from notifications.jobs.tasks import has_job_tasks
from notifications.jobs.transitions.guards import database_now
from notifications.models import Job, Worker
from notifications.realtime import doorbell
from notifications.realtime.auth import origin
from notifications.realtime.doorbell import channel_layer

#: Seconds: a probe that takes longer is said. A ring that is lost costs 5 s, until the position check.
SLOW = 3.0


def versions() -> Finding:
    """What is installed, and what is known to be wrong with it."""
    found = {"python": platform.python_version(), "django": django.get_version()}
    for name in ("channels", "daphne", "uvicorn", "psycopg", "channels_redis", "redis", "aiohttp"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    words = ", ".join(f"{name} {number}" for name, number in found.items())
    if (
        "channels_redis" in channel_layer.configured_path()
        and int(found.get("redis", "0").split(".")[0]) >= 8
    ):
        return Finding(
            what="versions",
            state=WARNING,
            words=f"redis {found['redis']} closes the layer's idle connections every 5 s.",
            remedy='Install redis before 8: pip install "redis>=7.4,<8".',
            figures=found,
        )
    return Finding(what="versions", state=OK, words=words, figures=found)


def layer() -> Finding:
    """By which way processes hear of one another, and whether a channel layer brings what it takes."""
    way = doorbell.transport_name()
    path = channel_layer.configured_path()
    if not path:
        return Finding(what="doorbell", state=OK, words=f"By {way}.", figures={"way": way})
    try:
        seconds = channel_layer.measure_round_trip()
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
    now = database_now()
    live = list(Worker.objects.using(database()).filter(lease_until__gte=now).order_by("id"))
    jobs = Job.objects.using(database())
    queued = jobs.filter(state=Job.State.QUEUED).exclude(queue_name__in=paused_queues())
    due = queued.filter(run_after__isnull=True) | queued.filter(run_after__lte=now)
    since = due.aggregate(since=Min(Greatest("queued_at", Coalesce("run_after", "queued_at"))))["since"]
    waits = max(0.0, (times.now() - since).total_seconds()) if since else 0.0
    figures = {
        "workers": len(live),
        "running": sum(worker.load for worker in live),
        "places": sum(worker.concurrency for worker in live),
        "due": due.count(),
        "oldest_waits_seconds": round(waits, 1),
        "paused": list(paused_queues()),
    }
    words = f"{len(live)} live, {figures['running']} of {figures['places']} places taken; {figures['due']} jobs wait"
    words += f", the oldest for {waits:.0f} s." if figures["due"] else "."
    in_vain = unserved_jobs().order_by("queue_name").values_list("queue_name", flat=True).distinct()
    if live and (names := list(in_vain[:10])):
        return Finding(
            what="workers",
            state=ERROR,
            words=f"No live worker takes the jobs of {', '.join(names)}; {words}",
            remedy="Start one that does: manage.py run_jobs, with --queue for these, or without.",
            figures=figures,
        )
    if live:
        return Finding(what="workers", state=OK, words=words, figures=figures)
    return Finding(
        what="workers",
        state=ERROR if waits > MIN_WAIT_SECONDS else WARNING,
        words=f"No worker is alive; {figures['due']} jobs wait"
        + (f", the oldest for {waits:.0f} s." if figures["due"] else "."),
        remedy="Start one: manage.py run_jobs, or set EMBEDDED_WORKER and serve by ASGI.",
        figures=figures,
    )


def outbound() -> Finding:
    """What the calls of live workers to other servers are doing, as of their last renewal."""
    live = Worker.objects.using(database()).filter(lease_until__gte=database_now()).order_by("id")
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
    now = database_now()
    live = Worker.objects.using(database()).filter(lease_until__gte=now)
    served = [set(filter(None, queues.split(","))) for queues in live.values_list("queues", flat=True)]
    queue = "default" if any(not queues or "default" in queues for queues in served) else None
    if served and queue is None:
        queue = min(served[0])
    if queue is None or queue in paused_queues():
        why = f"the queue {queue} is paused" if queue else "there is no worker"
        return Finding(what="round trip", state=WARNING, words=f"Not tried: {why}.", remedy="See above.")
    alias = next((alias for alias in task_backends if has_job_tasks(task_backends[alias])), None)
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
    except (JobFailed, JobCancelled, JobDoesNotExist) as exc:
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
