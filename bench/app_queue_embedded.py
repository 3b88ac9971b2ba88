"""This app with the worker in the process that enqueues, as the site's server runs it in development."""

from __future__ import annotations

from bench import app_queue
from bench.app_queue import counts, enqueue, enqueue_in_bulk, enqueue_pickup  # noqa: F401


def prepare() -> None:
    from notifications.realtime import listen
    from notifications.worker import embedded

    app_queue.prepare()
    embedded.start(listen)
