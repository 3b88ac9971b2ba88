"""Compare jobs with django-tasks-db, Procrastinate and Celery with Redis, in one run on one machine.

``python -m bench.jobs [--rounds 5] [--processes 2] [--only WORD …] [--queues WORD …] [--finished 1000000]
[--out FOLDER]``

Measured are empty jobs (those of this app with a notification), with one worker process and with several, for one owner
whose inbox grows, beside four processes that write to the same SQLite file, and in a table of a million finished jobs;
enqueueing, one by one and in bulk; the time from enqueueing to the start of a job with an idle worker; and 10,000 jobs
that wait 1 s, 1,000 at a time. The queues alternate in each round; a figure is the median of the rounds, with the worst
of them beside it. Needs ``bench/requirements.txt``, and PostgreSQL and Redis, which it starts; missing alternatives are
reported and skipped. ``--only`` selects measures by these words: rate, owner, writers, finished, enqueueing, pickup,
waiting.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.jobs_report import report
from bench.measured_queue import PYTHON, Queue, drain
from bench.queues import Places, queues

#: Names of measures, in the order of the report -> of queues -> figures of the rounds.
Figures = dict[str, dict[str, list[float]]]


def main(
    description: str | None = __doc__,
    make_queues: Callable[[Places], Iterator[Queue]] = queues,
    make_benchmark: type[JobBenchmark] | None = None,
) -> None:
    """Run the measures of ``make_benchmark`` that the arguments select with the queues of ``make_queues``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--finished", type=int, default=1_000_000)
    parser.add_argument("--scale", type=float, default=1, help="0.1: a tenth of the jobs, to try it out")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--queues", nargs="*", default=[], help="only those whose names contain one of these")
    parser.add_argument("--out", type=Path, help="a folder for jobs.json, jobs.md and jobs.svg")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-jobs-"))
    folder.chmod(0o755)
    places = Places(folder)
    figures: Figures = defaultdict(lambda: defaultdict(list))
    try:
        (make_benchmark or JobBenchmark)(places, figures, arguments, make_queues).run()
    finally:
        places.end()
        shutil.rmtree(folder, ignore_errors=True)
    table, picture = report(figures)
    print(table)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "jobs.json").write_text(json.dumps(figures, indent=1))
        (arguments.out / "jobs.md").write_text(table)
        (arguments.out / "jobs.svg").write_text(picture)


class JobBenchmark:
    """All measurements of one run."""

    def __init__(
        self,
        places: Places,
        figures: Figures,
        arguments: argparse.Namespace,
        make_queues: Callable[[Places], Iterator[Queue]],
    ) -> None:
        self.arguments = arguments
        self.figures = figures
        chosen = arguments.queues
        self.queues = [
            queue for queue in make_queues(places) if not chosen or any(word in queue.name for word in chosen)
        ]
        is_full = make_queues is queues and self.is_selected("finished")
        self.full = list(queues(places, finished=True)) if is_full else []

    def is_selected(self, name: str, queue: Queue | None = None) -> bool:
        chosen = not self.arguments.only or any(word in name for word in self.arguments.only)
        return chosen and (queue is None or name in queue.measures)

    def run(self) -> None:
        for queue in [*self.queues, *self.full]:
            queue.jobs = int(queue.jobs * self.arguments.scale)
            queue.call("prepare")
        for queue in self.full:
            print_progress(f"{queue.name}: {self.arguments.finished} finished jobs")
            queue.call("fill", self.arguments.finished)
        try:
            for number in range(self.arguments.rounds):
                print_progress(f"round {number + 1}")
                self.round()
            for queue in self.queues:
                self.once(queue)
        finally:
            for queue in [*self.queues, *self.full]:
                queue.end()

    def round(self) -> None:
        for queue in self.queues:
            if self.is_selected("enqueueing", queue):
                self.enqueueing(queue)
            if self.is_selected("rate", queue):
                for processes in sorted({1, self.arguments.processes}):
                    self.rate(queue, processes)
            if self.is_selected("owner", queue):
                self.rate(queue, 1, "jobs/s for one owner", "enqueue_for_one_owner")
            if self.is_selected("writers", queue) and "SQLite" in queue.name:
                self.beside_writers(queue)
        for queue in self.full:
            self.rate(queue, 1, "jobs/s among finished jobs")

    def once(self, queue: Queue) -> None:
        if self.is_selected("pickup", queue):
            self.pickup(queue)
        if self.is_selected("waiting", queue):
            self.waiting(queue)

    def add_figures(self, measure: str, queue: Queue, *values: float) -> None:
        self.figures[measure][queue.name] += values
        print_progress(f"  {measure}, {queue.name}: {', '.join(f'{value:.4g}' for value in values[:3])}")

    def rate(self, queue: Queue, processes: int, measure: str = "", enqueue: str = "enqueue_in_bulk") -> None:
        queue.call(enqueue, queue.jobs)
        with queue.working(processes) as workers:
            drained = drain(queue, workers, queue.jobs)
        measure = measure or f"jobs/s, {processes} process{'es' if processes > 1 else ''}"
        self.add_figures(measure, queue, drained.rate)
        if processes == 1:
            self.add_figures(measure.replace("jobs/s", "µs of CPU a job"), queue, drained.cpu)

    def beside_writers(self, queue: Queue) -> None:
        writers = [
            subprocess.Popen(
                [PYTHON, "-m", "bench.writer"],
                env=queue.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for _ in range(4)
        ]

        def start_writers() -> None:
            for writer in writers:
                assert writer.stdin
                writer.stdin.write(b"begin\n")
                writer.stdin.flush()

        waits: list[float] = []
        try:
            queue.call("enqueue_in_bulk", queue.jobs)
            with queue.working() as workers:
                drained = drain(queue, workers, queue.jobs, start_writers)
            for writer in writers:
                waits += json.loads(writer.communicate(b"end\n", timeout=30)[0])
        finally:
            for writer in writers:
                writer.kill()
        self.add_figures("jobs/s beside 4 writers", queue, drained.rate)
        self.add_figures("p99 of the writers' waits, ms", queue, percentile(waits, 0.99))

    def enqueueing(self, queue: Queue) -> None:
        for measure, name, number in (
            ("enqueued one by one, /s", "enqueue", 500),
            ("enqueued in bulk, /s", "enqueue_in_bulk", 2000),
        ):
            result = queue.call(name, number)
            self.add_figures(measure, queue, number / result.seconds)
            self.add_figures(measure.replace("/s", "µs of CPU"), queue, result.cpu / number * 1e6)
        with queue.working() as workers:
            drain(queue, workers, 2500)

    def pickup(self, queue: Queue) -> None:
        with queue.working():
            queue.call("pickups", 3)
            latencies = queue.call("pickups", queue.pickups).value
        self.add_figures("pickup p50, ms", queue, percentile(latencies, 0.5))
        self.add_figures("pickup p99, ms", queue, percentile(latencies, 0.99))

    def waiting(self, queue: Queue) -> None:
        number = int(10_000 * self.arguments.scale)
        queue.call("enqueue_seconds", number)
        with queue.working(concurrency=1000) as workers:
            drained = drain(queue, workers, number, skip=0)
        self.add_figures("10,000 jobs of 1 s, s", queue, drained.seconds)
        self.add_figures("10,000 jobs of 1 s, MB", queue, drained.memory)


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def print_progress(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
