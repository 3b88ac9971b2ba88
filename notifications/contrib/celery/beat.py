"""Ticks of Celery's beat: one for which the database is away is tried again, because beat tries none again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from celery import signals

from notifications.db import retry_while_unavailable
from notifications.worker import check_connections

T = TypeVar("T")

#: The services of beat, by the thread on which each enqueues.
_services: dict[int, Any] = {}


@signals.beat_init.connect(weak=False)
def _note_service(sender: Any = None, **kwargs: Any) -> None:
    _services[threading.get_ident()] = sender


def retry_in_beat(enqueue: Callable[[], T]) -> T:
    """Return what a call returns. On a thread of beat it is made again while the database is away, until beat stops."""
    service = _services.get(threading.get_ident())
    if service is None:
        return enqueue()

    def enqueue_tick() -> T:
        check_connections()
        return enqueue()

    return retry_while_unavailable(enqueue_tick, is_stopped=service._is_shutdown.is_set)
