"""Keep a connection of the doorbell alive: reconnect with back-off for as long as the process listens."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

MIN_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 5.0

#: Holds one connection until it is no longer needed; calls its argument once connected; raises if the connection fails.
Run = Callable[[Callable[[], None]], None]


def retry_forever(name: str, run: Run, stopping: threading.Event) -> None:
    """Call ``run(on_connected)`` until it returns, again after each error, with back-off, until ``stopping`` is set.

    Each new error is logged once under ``name``, and the recovery once.
    """
    backoff, last_error = MIN_BACKOFF_SECONDS, ""

    def on_connected() -> None:
        nonlocal last_error
        if last_error:
            logger.info("Doorbell works again: %s", name)
        last_error = ""

    while not stopping.is_set():
        started = time.monotonic()
        try:
            return run(on_connected)
        except Exception as exc:  # the thread must survive any error
            error = " ".join(f"{type(exc).__name__}: {exc}".split()).rstrip(":")
            if error != last_error:
                logger.warning(
                    "Doorbell interrupted, retrying: %s: %s "
                    "Until then, the position check finds changes by other processes within 5 s.",
                    name,
                    error if error.endswith(".") else f"{error}.",
                )
            last_error = error
        if time.monotonic() - started > MAX_BACKOFF_SECONDS:
            backoff = MIN_BACKOFF_SECONDS
        stopping.wait(backoff * random.uniform(0.5, 1.0))
        backoff = min(2 * backoff, MAX_BACKOFF_SECONDS)
