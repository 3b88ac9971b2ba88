"""From asking an idle worker for a job to the begin of the job, on one clock. The job says by UDP when it began."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable


def measure(ask: Callable[[int], None], number: int) -> list[float]:
    """Ask for one job after the other and return the ms from each call of ``ask`` to the begin of its job."""
    took = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ears:
        ears.bind(("127.0.0.1", 0))
        ears.settimeout(30)
        for _ in range(number):
            # At any moment between two looks of a worker that looks from time to time.
            time.sleep(random.uniform(0.03, 0.08))
            start = time.time()
            ask(ears.getsockname()[1])
            took.append((float(ears.recv(100)) - start) * 1000)
    return took


def say(port: int) -> None:
    """Called by the job as the first thing that it does."""
    now = str(time.time()).encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to:
        to.sendto(now, ("127.0.0.1", port))
