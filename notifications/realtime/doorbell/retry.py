"""A way to other processes that is begun again for ever, whatever becomes of the server at its other end."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

#: Seconds before the first new try, and at most between two.
FIRST, LONGEST = 0.1, 5.0


def retry_forever(way: str, live: Callable[[Callable[[], None]], None], ended: threading.Event) -> None:
    """Call ``live(well)`` until it returns, and after each error again, with back-off, until ``ended`` is set.

    ``live`` calls ``well()`` when it works. An error is logged once, and once that it is over.
    """
    pause, said = FIRST, ""

    def well() -> None:
        nonlocal said
        if said:
            logger.info("%s works again.", way)
        said = ""

    while not ended.is_set():
        began = time.monotonic()
        try:
            return live(well)
        except Exception as exc:  # the boundary of a thread that must not end
            error = " ".join(f"{type(exc).__name__}: {exc}".split()).rstrip(":")
            if error != said:
                logger.warning(
                    "%s is interrupted, and tried again until it works: %s "
                    "Meanwhile the position check brings what other processes did, within 5 s.",
                    way,
                    error if error.endswith(".") else f"{error}.",
                )
            said = error
        if time.monotonic() - began > LONGEST:
            pause = FIRST
        ended.wait(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, LONGEST)
