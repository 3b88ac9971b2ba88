"""No-op jobs per second, each with its notification and both numbered, on SQLite.

``python -m bench.jobs [--jobs 3000] [--rounds 5] [--writers 0]``

``--writers``: other processes that write to the same database all the time, as a busy site does; their waits
are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import statistics
import subprocess
import sys
import time

from bench.site import fresh


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--jobs", type=int, default=3000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--writers", type=int, default=0)
    told = options.parse_args()
    folder = fresh()
    logging.getLogger("notifications").setLevel(logging.ERROR)
    try:
        rounds, waits = measure(told.jobs, told.rounds, told.writers)
    finally:
        shutil.rmtree(folder)
    print(f"no-op jobs/s with notification, SQLite, {told.writers} other writers, {told.jobs} jobs a round")
    print(f"{'':>14} {'min':>8} {'median':>8} {'max':>8}")
    for name, figures in zip(("jobs/s", "CPU us a job"), zip(*rounds, strict=True), strict=True):
        print(f"{name:>14} {min(figures):8.0f} {statistics.median(figures):8.0f} {max(figures):8.0f}")
    if waits:
        waits.sort()
        p50, p99 = waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
        print(f"waits of {len(waits)} other writes, ms: p50 {p50:.1f}, p99 {p99:.1f}, worst {waits[-1]:.1f}")


def measure(jobs: int, rounds: int, writers: int) -> tuple[list[tuple[float, float]], list[float]]:
    """Return jobs/s and CPU time (us) a job of each round, and the waits (ms) of the other writers."""
    from django.contrib.auth import get_user_model

    users = [get_user_model().objects.create(username=f"user{n}").pk for n in range(20)]
    others = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.writer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(writers)
    ]
    try:
        figures = [one_round(jobs, users) for _ in range(rounds)]
    finally:
        waits = []
        for other in others:
            out, _ = other.communicate(b"end\n", timeout=30)
            waits += json.loads(out)
    return figures, waits


def one_round(jobs: int, users: list[int]) -> tuple[float, float]:
    from notifications.jobs.worker import Worker

    enqueue(jobs, users)
    worker = Worker()

    async def work() -> tuple[float, float]:
        done = asyncio.Event()
        left = jobs
        loop = asyncio.get_running_loop()

        def count(job, **kwargs) -> None:
            nonlocal left
            left -= 1
            if not left:
                loop.call_soon_threadsafe(done.set)

        from notifications.signals import job_finished

        job_finished.connect(count)
        start, cpu = time.perf_counter(), time.process_time()
        running = asyncio.create_task(worker.run())
        await done.wait()
        took, cpu = time.perf_counter() - start, time.process_time() - cpu
        worker.stop(0)
        await running
        return jobs / took, cpu / jobs * 1e6

    return asyncio.run(work())


def enqueue(jobs: int, users: list[int]) -> None:
    from django.db import transaction

    from bench.tasks import nothing

    for start in range(0, jobs, 500):
        with transaction.atomic():
            for number in range(start, min(start + 500, jobs)):
                nothing.using(owner=users[number % len(users)]).enqueue(number)


if __name__ == "__main__":
    main()
