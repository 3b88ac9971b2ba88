"""Jobs beside django-tasks-db, Procrastinate and Celery with Redis, all in one run on one machine.

``python -m bench.jobs [--rounds 5] [--processes 2] [--only WORD …] [--finished 1000000] [--out FOLDER]``

Measured are jobs that do nothing (ours with the notification of its owner, both numbered), with one worker process and
with several, all of them for one owner whose inbox fills, beside four processes that write to the same SQLite file, and
in a table of a million finished jobs;
asking for jobs, one by one and in bulk; the way from asking to the begin of the job with an idle worker; and 10,000
jobs that wait 1 s, 1,000 at a time. The queues take turns in each round; a figure is the median of the rounds, with the
worst of them beside it. Needs
``bench/requirements.txt``, PostgreSQL and Redis, which are started here; what is missing is said and left out.
``--only`` measures only what has one of these words in its name: rate, owner, writers, finished, asking, pickup,
waiting.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

from bench.contest import PYTHON, Queue, drain
from bench.jobs_report import report
from bench.queues import Places, queues

#: Names of measures, in the order of the report -> of queues -> figures of the rounds.
Figures = dict[str, dict[str, list[float]]]


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--finished", type=int, default=1_000_000)
    options.add_argument("--scale", type=float, default=1, help="0.1: a tenth of the jobs, to try it out")
    options.add_argument("--only", nargs="*", default=[])
    options.add_argument("--out", type=Path, help="a folder for jobs.json, jobs.md and jobs.svg")
    told = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-jobs-"))
    folder.chmod(0o755)
    places = Places(folder)
    figures: Figures = defaultdict(lambda: defaultdict(list))
    try:
        Contest(places, figures, told).run()
    finally:
        places.end()
        shutil.rmtree(folder, ignore_errors=True)
    table, picture = report(figures)
    print(table)
    if told.out:
        told.out.mkdir(parents=True, exist_ok=True)
        (told.out / "jobs.json").write_text(json.dumps(figures, indent=1))
        (told.out / "jobs.md").write_text(table)
        (told.out / "jobs.svg").write_text(picture)


class Contest:
    """All measures of one run."""

    def __init__(self, places: Places, figures: Figures, told: argparse.Namespace) -> None:
        self.told = told
        self.figures = figures
        self.queues = list(queues(places))
        self.full = list(queues(places, finished=True)) if self.wanted("finished") else []

    def wanted(self, name: str, queue: Queue | None = None) -> bool:
        chosen = not self.told.only or any(word in name for word in self.told.only)
        return chosen and (queue is None or name in queue.measures)

    def run(self) -> None:
        for queue in [*self.queues, *self.full]:
            queue.jobs = int(queue.jobs * self.told.scale)
            queue.call("prepare")
        for queue in self.full:
            say(f"{queue.name}: {self.told.finished} finished jobs")
            queue.call("fill", self.told.finished)
        try:
            for number in range(self.told.rounds):
                say(f"round {number + 1}")
                self.round()
            for queue in self.queues:
                self.once(queue)
        finally:
            for queue in [*self.queues, *self.full]:
                queue.end()

    def round(self) -> None:
        for queue in self.queues:
            if self.wanted("asking", queue):
                self.asking(queue)
            if self.wanted("rate", queue):
                for processes in sorted({1, self.told.processes}):
                    self.rate(queue, processes)
            if self.wanted("owner", queue):
                self.rate(queue, 1, "jobs/s for one owner", "enqueue_for_one_owner")
            if self.wanted("writers", queue) and "SQLite" in queue.name:
                self.beside_writers(queue)
        for queue in self.full:
            self.rate(queue, 1, "jobs/s among finished jobs")

    def once(self, queue: Queue) -> None:
        if self.wanted("pickup", queue):
            self.pickup(queue)
        if self.wanted("waiting", queue):
            self.waiting(queue)

    def keep(self, measure: str, queue: Queue, *values: float) -> None:
        self.figures[measure][queue.name] += values
        say(f"  {measure}, {queue.name}: {', '.join(f'{value:.4g}' for value in values[:3])}")

    def rate(self, queue: Queue, processes: int, measure: str = "", enqueue: str = "enqueue_in_bulk") -> None:
        queue.call(enqueue, queue.jobs)
        with queue.working(processes) as workers:
            drained = drain(queue, workers, queue.jobs)
        measure = measure or f"jobs/s, {processes} process{'es' if processes > 1 else ''}"
        self.keep(measure, queue, drained.rate)
        if processes == 1:
            self.keep(measure.replace("jobs/s", "us of CPU a job"), queue, drained.cpu)

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

        def begin() -> None:
            for writer in writers:
                assert writer.stdin
                writer.stdin.write(b"begin\n")
                writer.stdin.flush()

        waits: list[float] = []
        try:
            queue.call("enqueue_in_bulk", queue.jobs)
            with queue.working() as workers:
                drained = drain(queue, workers, queue.jobs, begin)
            for writer in writers:
                waits += json.loads(writer.communicate(b"end\n", timeout=30)[0])
        finally:
            for writer in writers:
                writer.kill()
        self.keep("jobs/s beside 4 writers", queue, drained.rate)
        self.keep("p99 of the writers' waits, ms", queue, at(waits, 0.99))

    def asking(self, queue: Queue) -> None:
        for measure, name, number in (
            ("asked for, one by one, /s", "enqueue", 500),
            ("asked for, in bulk, /s", "enqueue_in_bulk", 2000),
        ):
            answer = queue.call(name, number)
            self.keep(measure, queue, number / answer.seconds)
            self.keep(measure.replace("/s", "us of CPU"), queue, answer.cpu / number * 1e6)
        with queue.working() as workers:
            drain(queue, workers, 2500)

    def pickup(self, queue: Queue) -> None:
        with queue.working():
            queue.call("pickups", 3)
            took = queue.call("pickups", queue.pickups).value
        self.keep("pickup p50, ms", queue, at(took, 0.5))
        self.keep("pickup p99, ms", queue, at(took, 0.99))

    def waiting(self, queue: Queue) -> None:
        number = int(10_000 * self.told.scale)
        queue.call("enqueue_seconds", number)
        with queue.working(concurrency=1000) as workers:
            drained = drain(queue, workers, number, skip=0)
        self.keep("10,000 jobs of 1 s, s", queue, drained.seconds)
        self.keep("10,000 jobs of 1 s, MB", queue, drained.memory)


def at(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
