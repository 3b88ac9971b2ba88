"""Observed tasks of Celery in one process, with a broker in memory: what ``bench.guard`` measures of them.

Publisher and worker are threads, so that the CPU time of the process is that of a task from its message to the record
of its end.
"""

from __future__ import annotations

import contextlib
import time
from functools import cache
from typing import Any

GIVE_UP_SECONDS = 60.0
#: Holds the worker, which would stop without a reference to it.
worker = contextlib.ExitStack()


@cache
def observed_task() -> Any:
    """Return an observed task, and start a worker for it, which runs until the process ends."""
    from celery import Celery
    from celery.contrib.testing.worker import start_worker

    from notifications.contrib.celery import observed

    app = Celery("bench", broker="memory://", backend="cache+memory://", set_as_current=True)
    app.conf.update(
        broker_transport_options={"polling_interval": 0.01},
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=0,  # the worker takes all messages at once, instead of polling for each
    )

    @app.task
    @observed(title="Nothing {number}", owner="owner")
    def nothing(number: int, owner: int) -> None:
        """Return at once."""

    worker.enter_context(start_worker(app, pool="threads", perform_ping_check=False, loglevel="ERROR"))
    return nothing


def run_observed(number: int) -> float:
    """Publish so many tasks, wait until their ends are recorded, and return the seconds of CPU."""
    from bench.database import execute, users

    task = observed_task()
    give_up_at = time.monotonic() + GIVE_UP_SECONDS
    finished = "SELECT count(*) FROM notifications_job WHERE state = 'succeeded'"
    ((expected,),) = execute(finished)
    start = time.process_time()
    for n in range(number):
        task.delay(n, users()[n % len(users())])
    expected += number
    # Without the CPU of this thread from here on: with many rows of other measures the count took a third of the whole.
    waiting = time.thread_time()
    while execute(finished) != [(expected,)]:
        assert time.monotonic() < give_up_at, f"The tasks are not recorded after {GIVE_UP_SECONDS:g} s."
        time.sleep(0.02)
    return time.process_time() - start - (time.thread_time() - waiting)
