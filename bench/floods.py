"""Measure how long the single jobs of one owner wait beside floods of scheduled jobs, retries and batches of others.

``python -m bench.floods [--jobs 10000] [--singles 100] [--slots 4] [--workers 1 2] [--floods due retries …]
[--databases SQLite PostgreSQL]``

Single jobs are enqueued, and others fall due, every 250 ms from the moment of the flood on: fewer than a third of four
slots runs, so that none waits for others of its owner. The floods:

``idle``     none: single jobs that are due in 20 ms, one after the other
``due``      jobs of 50 ms of one owner, which are due at once
``retries``  300 jobs that fail, and are retried after pauses, without end
``batches``  two batches of half as many jobs, of two owners
``paused``   as ``due``, in a paused queue; ``urgency``: of a lower priority

Printed are the median and the worst wait in ms of each kind: from the call of ``enqueue()``, or from the due time.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from bench.measured_queue import Queue
from bench.queues import Places, TestSkipped, this_app

FLOODS = ("idle", "due", "retries", "batches", "paused", "urgency")
RETRIED_JOBS = 300


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--singles", type=int, default=100)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--floods", nargs="*", choices=FLOODS, default=FLOODS)
    parser.add_argument("--databases", nargs="*", default=["SQLite", "PostgreSQL"])
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-floods-"))
    folder.chmod(0o755)
    places = Places(folder)
    try:
        for name in arguments.databases:
            for flood in arguments.floods:
                for workers in arguments.workers:
                    try:
                        url = places.sqlite() if name == "SQLite" else places.postgres()
                    except TestSkipped as exc:
                        print(f"{name} is not measured: {exc}")
                        break
                    waits = measure(this_app(name, url), flood, workers, arguments)
                    print(f"{name:10} {flood:8} {workers} workers  {describe(waits)}", flush=True)
    finally:
        places.end()
        shutil.rmtree(folder, ignore_errors=True)


def measure(queue: Queue, flood: str, workers: int, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Return the waits in ms, by kind."""
    queue.module = "bench.app_floods"
    queue.call("prepare")
    try:
        with queue.working(workers, arguments.slots):
            queue.call("idle", 1, 0.02)  # the workers have started
            time.sleep(2)
            if flood == "idle":
                return queue.call("idle", arguments.singles, 0.02).value
            jobs = RETRIED_JOBS if flood == "retries" else arguments.jobs
            found = queue.call("beside", flood, jobs, arguments.singles).value
            queue.call("end_flood")
            return found
    finally:
        queue.end()


def describe(waits: dict[str, list[float]]) -> str:
    return "  ".join(
        f"{kind}: p50 {statistics.median(found):.0f}, worst {max(found):.0f} of {len(found)}"
        for kind, found in sorted(waits.items())
    )


if __name__ == "__main__":
    main()
