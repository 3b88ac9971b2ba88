"""Look for a worker that stops although jobs are ready: many jobs of one owner, on new PostgreSQL databases.

``python -m bench.soak [--rounds 20] [--jobs 50000] [--load 4]``

In each round one worker executes all of them, beside ``--load`` processes that compute. Printed are its rate and the
longest time in which it finished no job. Exits with 1 after a round with a pause of over ``MAX_PAUSE_SECONDS``.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.measured_queue import PYTHON
from bench.queues import Places, this_app

#: After as long the worker's watchdog writes its stacks to the log, and has it claim anew.
MAX_PAUSE_SECONDS = 10.0
POLL_INTERVAL_SECONDS = 0.5


class Round(NamedTuple):
    jobs_per_second: float
    longest_pause: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--load", type=int, default=4, help="processes that compute")
    arguments = parser.parse_args()
    rounds = []
    for number in range(1, arguments.rounds + 1):
        rounds.append(done := run_round(arguments.jobs, arguments.load))
        print(
            f"{number}: {done.jobs_per_second:.0f} jobs/s, longest pause {done.longest_pause:.1f} s",
            flush=True,
        )
    worst = max(done.longest_pause for done in rounds)
    print(f"{len(rounds)} rounds of {arguments.jobs} jobs, longest pause {worst:.1f} s")
    sys.exit(worst > MAX_PAUSE_SECONDS)


def run_round(jobs: int, load: int) -> Round:
    """Execute jobs of one owner on a new database."""
    with tempfile.TemporaryDirectory(prefix="bench-soak-") as folder:
        Path(folder).chmod(0o755)
        places = Places(Path(folder))
        queue = this_app("PostgreSQL", places.postgres())
        try:
            queue.call("prepare")
            queue.call("enqueue_for_one_owner", jobs)
            with computing(load), queue.working():
                start = changed_at = time.monotonic()
                longest, remaining = 0.0, jobs
                while remaining:
                    time.sleep(POLL_INTERVAL_SECONDS)
                    found, now = sum(queue.call("counts").value), time.monotonic()
                    if remaining < jobs:  # before that the worker loads its code
                        longest = max(longest, now - changed_at)
                    if found != remaining:
                        remaining, changed_at = found, now
                    elif now - changed_at > 10 * MAX_PAUSE_SECONDS:
                        sys.exit(f"It has stopped with {remaining} jobs.\n{queue.read_log()}")
            return Round(jobs / (changed_at - start), longest)
        finally:
            queue.end()
            places.end()


@contextlib.contextmanager
def computing(processes: int) -> Iterator[None]:
    """Have processes compute during the block."""
    started = [subprocess.Popen([PYTHON, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
