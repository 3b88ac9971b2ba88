"""Measure the time from enqueueing a job to its start at an idle worker. The job reports its start by UDP."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable


def measure(enqueue: Callable[[int], None], number: int) -> list[float]:
    """Enqueue one job after the other; return the ms from each call of ``enqueue`` to the start of its job."""
    latencies = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(30)
        for _ in range(number):
            # A random moment between two polls of a worker.
            time.sleep(random.uniform(0.03, 0.08))
            start = time.time()
            enqueue(receiver.getsockname()[1])
            latencies.append((float(receiver.recv(100)) - start) * 1000)
    return latencies


def report_start(port: int, kind: str = "", since: float = 0.0) -> None:
    """Report the start of a job, as seconds since a time, and its kind. The job calls it first."""
    now = f"{time.time() - since} {kind}".strip().encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(now, ("127.0.0.1", port))
