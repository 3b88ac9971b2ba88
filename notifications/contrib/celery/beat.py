"""Ticks of Celery's beat: one for which the database is away is tried again, because beat tries none again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from celery import signals

from notifications.db import is_unavailable
from notifications.worker import check_connections

logger = logging.getLogger("notifications.jobs")

T = TypeVar("T")

RETRY_INTERVAL_SECONDS = 1.0
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
    is_logged = False
    while True:
        check_connections()
        try:
            return enqueue()
        except Exception as exc:
            if not is_unavailable(exc) or service._is_shutdown.is_set():
                raise
            if not is_logged:
                is_logged = True
                logger.warning("Could not enqueue the job of a tick, which is tried again: %s", exc)
        time.sleep(RETRY_INTERVAL_SECONDS)
