"""Measure jobs of ten steps beside jobs without steps: jobs/s, CPU time, and commits for each job.

``python -m bench.steps [--jobs 1000] [--rounds 5]``

One worker process runs 100 jobs at a time, on SQLite and on PostgreSQL, which it starts. DBOS and Absurd are measured
beside them, by turns, if they are installed. Each step awaits the next turn
of the event loop. Commits are those of the worker, counted where Django commits; on PostgreSQL a claim in one statement
is a commit too, which is not among them.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from bench.measured_queue import PYTHON, Queue, drain
from bench.queues import Places, site

TASKS = ("nothing", "ten_steps")
#: Measured if they are installed, on PostgreSQL: name and package.
RIVALS = (("DBOS", "dbos"), ("Absurd", "absurd_sdk"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-steps-"))
    folder.chmod(0o755)
    places = Places(folder)
    counted = folder / "commits"
    queues = [make_queue(name, place(), counted) for name, place in app_steps(places)]
    queues += [make_rival(name, module, places.postgres()) for name, module in RIVALS if find_spec(module)]
    try:
        figures = defaultdict(list)
        for queue in queues:
            queue.call("prepare")
        for _ in range(arguments.rounds):
            for task in TASKS:
                for queue in queues:
                    counted.unlink(missing_ok=True)
                    figures[queue.name, task].append(measure(queue, task, arguments.jobs, counted))
        for queue in queues:
            queue.end()
        for (name, task), rounds in figures.items():
            rates, cpus, commits = zip(*rounds, strict=True)
            counts = f", {statistics.median(commits):.2f} commits" if None not in commits else ""
            print(
                f"{name}, {task}: {statistics.median(rates):,.0f} jobs/s (worst {min(rates):,.0f}), "
                f"{statistics.median(cpus):,.0f} µs of CPU (worst {max(cpus):,.0f}){counts} a job"
            )
    finally:
        places.end()
        shutil.rmtree(folder, ignore_errors=True)


def app_steps(places: Places) -> list[tuple[str, Callable[[], str]]]:
    return [("SQLite", places.sqlite), ("PostgreSQL", places.postgres)]


def make_queue(name: str, url: str, counted: Path) -> Queue:
    return Queue(
        name=name,
        module="bench.app_queue",
        environment=site(url, "bench.settings") | {"BENCH_COMMITS": str(counted)},
        workers=lambda processes, concurrency: [[PYTHON, "-m", "bench.steps", "--worker", str(concurrency)]],
        measures=set(),
    )


def make_rival(name: str, package: str, url: str) -> Queue:
    module = f"bench.alternatives.{package.removesuffix('_sdk')}_steps"
    return Queue(
        name=name,
        module=module,
        environment={"DATABASE_URL": url},
        workers=lambda processes, concurrency: [[PYTHON, "-m", module]],
        measures=set(),
    )


def measure(queue: Queue, task: str, jobs: int, counted: Path) -> tuple[float, float, float | None]:
    """Return jobs/s, microseconds of CPU and, if they are counted, commits for each job."""
    queue.call("enqueue_in_bulk", jobs, 100, task)
    with queue.working() as workers:
        drained = drain(queue, workers, jobs)
    return drained.rate, drained.cpu, int(counted.read_text()) / jobs if counted.exists() else None


def run_worker(concurrency: str) -> None:
    """Run a worker that counts its commits until it ends."""
    import os

    import django
    from django.core.management import call_command
    from django.db.backends.base.base import BaseDatabaseWrapper

    commits = 0
    commit = BaseDatabaseWrapper._commit

    def count_and_commit(db: BaseDatabaseWrapper) -> object:
        nonlocal commits
        commits += 1
        return commit(db)

    BaseDatabaseWrapper._commit = count_and_commit
    django.setup()
    try:
        call_command("run_jobs", "--concurrency", concurrency)
    finally:
        Path(os.environ["BENCH_COMMITS"]).write_text(str(commits))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        run_worker(sys.argv[2])
    else:
        main()
