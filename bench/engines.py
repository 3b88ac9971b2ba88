"""Compare jobs of this app on Celery's workers with Celery alone, on one machine.

``python -m bench.engines [--rounds 5] [--processes 2] [--only WORD …] [--scale 0.1] [--out FOLDER]``

Measured are empty jobs or tasks per second, with ``--processes`` worker processes; how many are enqueued per second;
the time from enqueueing to the start at an idle worker; and the time from the commit of a job to the frame with its
notification at a WebSocket client of a server in another process. ``--only`` selects by these words: rate, enqueueing,
pickup, browser.

Those of this app are rows of PostgreSQL with an owner, an outcome and a notification; messages that wake their workers
go through Redis. The tasks of "Celery alone" have results in Redis, or none. ``threads`` has 20 threads in each
process. The queues alternate in each round, and each round begins with another one; a figure is the median of the
rounds, with the worst of them beside it. A round takes about two minutes on two cores. Needs
``bench/requirements.txt``, and PostgreSQL and Redis, which it starts.
"""

from __future__ import annotations

import statistics

from bench.jobs import JobBenchmark, main
from bench.measured_queue import Queue, drain
from bench.queues import engine_queues

#: Jobs that are enqueued one by one, and of which the latencies of one round are the medians.
ENQUEUED, FRAMES = 200, 20


class EngineBenchmark(JobBenchmark):
    """All measurements of one run. In a round the workers of each queue are started once."""

    def run(self) -> None:
        for queue in self.queues:
            queue.jobs = int(queue.jobs * self.arguments.scale)
            queue.call("prepare")
        try:
            for number in range(self.arguments.rounds):
                print(f"round {number + 1}", flush=True)
                first = number % len(self.queues)
                for queue in self.queues[first:] + self.queues[:first]:
                    self.measure(queue)
        finally:
            for queue in self.queues:
                queue.end()

    def measure(self, queue: Queue) -> None:
        """Measure one queue in one round."""
        enqueued = 0
        if self.is_selected("enqueueing", queue):
            enqueued = int(ENQUEUED * self.arguments.scale)
            result = queue.call("enqueue", enqueued)
            self.add_figures("enqueued one by one, /s", queue, enqueued / result.seconds)
        if self.is_selected("rate", queue):
            queue.call("enqueue_in_bulk", queue.jobs)
        processes = self.arguments.processes
        with queue.working(processes) as workers:
            if self.is_selected("rate", queue):
                drained = drain(queue, workers, enqueued + queue.jobs)
                self.add_figures(f"jobs/s, {processes} processes", queue, drained.rate)
                self.add_figures(f"µs of CPU a job, {processes} processes", queue, drained.cpu)
            elif enqueued:
                drain(queue, workers, enqueued)
            if self.is_selected("pickup", queue):
                queue.call("pickups", 3)
                latencies = queue.call("pickups", queue.pickups).value
                self.add_figures("pickup p50, ms", queue, statistics.median(latencies))
            if self.is_selected("browser", queue):
                port = queue.serve()
                queue.call("frames", 3, port)
                latencies = queue.call("frames", FRAMES, port).value
                self.add_figures("commit to browser p50, ms", queue, statistics.median(latencies))


if __name__ == "__main__":
    main(__doc__, engine_queues, EngineBenchmark)
