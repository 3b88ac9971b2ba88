"""Floods of this app's jobs, and single jobs of another owner beside them: see ``bench/floods.py``."""

from __future__ import annotations

import socket
import threading
import time
from collections import defaultdict
from datetime import timedelta

from django.apps import apps
from django.core.management import call_command
from django.utils import timezone

from bench.app_queue import enqueue_in_bulk  # noqa: F401
from bench.database import execute, prepare, users  # noqa: F401

#: Seconds from the call until what is scheduled is due.
LEAD_SECONDS = 1.5
#: Seconds between two single jobs of a kind, and after which a round has failed.
INTERVAL_SECONDS, GIVE_UP_SECONDS = 0.25, 60.0
#: Single jobs between those of a flood.
AMID_JOBS = 4
TOMORROW_SECONDS = 86_400.0


def idle(singles: int, seconds: float) -> dict[str, list[float]]:
    """Return the ms from the due time of single jobs to their starts. Each is due in so many seconds."""
    waits: dict[str, list[float]] = defaultdict(list)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(GIVE_UP_SECONDS)
        for _ in range(singles):
            _schedule(receiver.getsockname()[1], "due", time.time() + seconds)
            _receive(receiver, waits)
            time.sleep(0.05)
    return waits


def beside(flood: str, jobs: int, singles: int) -> dict[str, list[float]]:
    """Return the ms that single jobs waited, by their kind, beside a flood of so many jobs.

    ``amid`` ones are scheduled between those of the flood, for the same time; ``due`` ones for that time and later;
    ``fresh`` ones are enqueued from then on.
    """
    waits: dict[str, list[float]] = defaultdict(list)
    make, start = FLOODS[flood]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(GIVE_UP_SECONDS)
        port = receiver.getsockname()[1]
        amid = 0
        if start is _make_due:
            make(jobs // 2)
            amid = AMID_JOBS
            for _ in range(amid):
                _schedule(port, "amid", time.time() + TOMORROW_SECONDS, since=0)
            jobs -= jobs // 2
        make(jobs)
        due_at = time.time() + LEAD_SECONDS + singles * 0.01
        for number in range(singles):
            _schedule(port, "due", due_at + number * INTERVAL_SECONDS)
        start(due_at)
        time.sleep(max(0.0, due_at - time.time()))

        def enqueue_singles() -> None:
            from bench.tasks import pickup_since

            for number in range(singles):
                time.sleep(max(0.0, due_at + number * INTERVAL_SECONDS - time.time()))
                pickup_since.using(owner=users()[0]).enqueue(port, "fresh", time.time())

        enqueuing = threading.Thread(target=enqueue_singles)
        enqueuing.start()
        try:
            for _ in range(2 * singles + amid):
                _receive(receiver, waits)
        except TimeoutError:
            waits["lost"].append(0.0)
        enqueuing.join()
    if amid:
        waits["amid"] = [milliseconds - due_at * 1000 for milliseconds in waits["amid"]]
    return waits


def end_flood() -> None:
    """Have the jobs that are left never run."""
    execute(
        "UPDATE notifications_job SET state = 'cancelled', due_at = NULL, finished_at = CURRENT_TIMESTAMP "
        "WHERE state = 'queued'"
    )


def _schedule(port: int, kind: str, due_at: float, since: float | None = None) -> None:
    from bench.tasks import pickup_since

    moment = timezone.now() + timedelta(seconds=due_at - time.time())
    pickup_since.using(owner=users()[0], run_after=moment).enqueue(
        port, kind, due_at if since is None else since
    )


def _receive(receiver: socket.socket, waits: dict[str, list[float]]) -> None:
    seconds, _, kind = receiver.recv(100).decode().partition(" ")
    waits[kind].append(float(seconds) * 1000)


def _enqueue(number: int, owner: int = 1, name: str = "short", **options: object) -> None:
    from django.db import transaction

    from bench import tasks

    for first in range(0, number, 500):
        with transaction.atomic():
            for n in range(first, min(first + 500, number)):
                getattr(tasks, name).using(owner=users()[owner], **options).enqueue(n)


def _enqueue_for_later(number: int, **options: object) -> None:
    _enqueue(number, run_after=timezone.now() + timedelta(seconds=TOMORROW_SECONDS), **options)


def _make_due(due_at: float) -> None:
    """Have all that is scheduled for tomorrow be due at a time."""
    moment = timezone.now() + timedelta(seconds=due_at - time.time())
    tomorrow = timezone.now() + timedelta(hours=12)
    jobs = apps.get_model("notifications", "Job").objects
    jobs.filter(due_at__gt=tomorrow).update(due_at=moment, run_after=moment)


def _enqueue_paused(number: int) -> None:
    call_command("notifications", "jobs", "pause", "reports", verbosity=0)
    _enqueue_for_later(number, queue_name="reports")


def _start_retries(number: int) -> None:
    """Have all of them fail a few times, so that some are due at any time."""
    _enqueue(number, name="unreachable")
    time.sleep(3)


def _enqueue_batches(number: int) -> None:
    from notifications.api import batch

    for owner in (1, 2):
        with batch(owner=users()[owner], title="A batch"):
            from bench.tasks import short

            for n in range(number // 2):
                short.enqueue(n)


#: What makes each flood, and what starts it at a time.
FLOODS = {
    "due": (_enqueue_for_later, _make_due),
    "retries": (_start_retries, lambda due_at: None),
    "batches": (_enqueue_batches, lambda due_at: None),
    "paused": (_enqueue_paused, _make_due),
    "urgency": (lambda number: _enqueue_for_later(number, priority=-10), _make_due),
}
