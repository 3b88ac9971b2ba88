"""This app with the worker in the process that enqueues, as the site's server runs it in development."""

from __future__ import annotations

from bench import ours
from bench.ours import ask, counts, enqueue, enqueue_in_bulk  # noqa: F401


def prepare() -> None:
    from notifications.jobs.worker import embedded
    from notifications.realtime import doorbell

    ours.prepare()
    embedded.start(doorbell.listen)
