"""Measure how long a worker takes to begin many jobs that wait.

``python -m bench.begun [--jobs 100000] [--rounds 3] [--databases SQLite PostgreSQL]``

One worker with as many slots as there are jobs; each job waits a minute, like a call of a slow upstream. Printed are
the seconds from the start of the first job until the last one has started, by the times in the rows, and the CPU time
and peak memory of the worker until then.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

from bench.measured_queue import Queue
from bench.queues import Places, TestSkipped, this_app

GIVE_UP_SECONDS = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--databases", nargs="*", default=["SQLite", "PostgreSQL"])
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-begun-"))
    folder.chmod(0o755)
    places = Places(folder)
    try:
        for database in arguments.databases:
            try:
                seconds = [one_round(places, database, arguments.jobs) for _ in range(arguments.rounds)]
            except TestSkipped as exc:
                print(f"{database} is not measured: {exc}")
                continue
            print(
                f"{database}: median {statistics.median(seconds):.1f} s, worst {max(seconds):.1f}", flush=True
            )
    finally:
        places.end()
        shutil.rmtree(folder, ignore_errors=True)


def one_round(places: Places, database: str, jobs: int) -> float:
    """Return the seconds in which all jobs have begun, on a new database."""
    queue: Queue = this_app(database, places.sqlite() if database == "SQLite" else places.postgres())
    queue.call("prepare")
    queue.call("enqueue_in_bulk", jobs, 100, "minute")
    try:
        with queue.working(concurrency=jobs) as workers:
            give_up_at = time.monotonic() + GIVE_UP_SECONDS
            while queue.call("counts").value[0] and time.monotonic() < give_up_at:
                time.sleep(0.5)
            cpu, memory = workers.cpu(), workers.memory()
            first, last = (datetime.fromisoformat(at) for at in queue.call("first_and_last_start").value)
            left = queue.call("counts").value[0]
    finally:
        queue.end()
    seconds = (last - first).total_seconds()
    print(
        f"{database}: {jobs - left} of {jobs} jobs begun in {seconds:.1f} s, "
        f"{cpu / jobs * 1e6:.0f} us of CPU a job, {memory:.0f} MB",
        flush=True,
    )
    return seconds


if __name__ == "__main__":
    main()
