"""What ``bench.guard`` measures of jobs and notifications: their CPU, and how long other writers wait beside jobs."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import time
from collections.abc import Callable

from bench.database import USERS
from bench.measured_queue import PYTHON, Queue, Workers

#: Measures the next turn of a side: the name of each figure and its value.
Turn = Callable[[], dict[str, float]]
#: The end of the name of a figure that is printed and never fails.
NOT_JUDGED = "(not judged)"

#: Jobs in a turn, and those that are enqueued one by one.
JOBS, SINGLE_JOBS = 1000, 100
#: Jobs in a turn that an idle worker starts one by one, after 0.05 s each.
PICKUPS = 3
#: Jobs of 50 ms in a turn, and the threads of the Celery worker that runs them.
SHORT_JOBS, CELERY_THREADS = 160, 8
#: Notifications, and jobs that ask, in a turn.
NOTIFICATIONS, QUESTIONS = 200, 200
#: Processes that write beside the worker, and the jobs in such a turn, enough for about 200 waits.
WRITERS, JOBS_BESIDE_WRITERS = 4, 1000
#: The part of the waits that is judged: the longest, by their mean. SQLite waits 1, 2, 5, 10, 15, … ms between two
#: tries, so waits come in steps, and the p99 of a turn jumps between two of them. Between turns of equal trees with 500
#: waits the p99 scattered by 42 % (standard deviation of the logarithm of the ratios), the mean of the longest
#: twentieth, which it is part of, by 21 %.
JUDGED_PART = 0.05


def job_turn(queue: Queue, workers: Workers) -> Turn:
    def run() -> dict[str, float]:
        before = workers.precise_cpu()
        in_bulk = queue.call("enqueue_in_bulk", JOBS)
        wait_until_done(queue)
        worker = workers.precise_cpu() - before
        single = queue.call("enqueue", SINGLE_JOBS)
        wait_until_done(queue)
        return {
            f"µs of CPU a job, {queue.name}": worker / JOBS * 1e6,
            f"µs of CPU to enqueue one by one, {queue.name}": single.cpu / SINGLE_JOBS * 1e6,
            f"µs of CPU to enqueue in bulk, {queue.name}": in_bulk.cpu / JOBS * 1e6,
        }

    return run


def pickup_turn(queue: Queue) -> Turn:
    def run() -> dict[str, float]:
        pickups = queue.call("pickups", PICKUPS).value
        wait_until_done(queue)
        return {f"ms until an idle worker starts a job, {queue.name}": statistics.median(pickups)}

    return run


def celery_turn(queue: Queue) -> Turn:
    def run() -> dict[str, float]:
        queue.call("enqueue_in_bulk", SHORT_JOBS, USERS, "short_sync")
        start = time.perf_counter()
        wait_until_done(queue)
        milliseconds = (time.perf_counter() - start) * CELERY_THREADS / SHORT_JOBS * 1e3
        return {f"ms of a thread of Celery's for a job of 50 ms, {queue.name}": milliseconds}

    return run


def notify_turn(queue: Queue) -> Turn:
    def run() -> dict[str, float]:
        cpu = queue.call("notify_one_by_one", NOTIFICATIONS).cpu
        return {f"µs of CPU of notify(), {queue.name}": cpu / NOTIFICATIONS * 1e6}

    return run


def question_turn(queue: Queue, workers: Workers) -> Turn:
    """The jobs stay suspended: no question is answered."""

    def run() -> dict[str, float]:
        before = workers.precise_cpu()
        queue.call("enqueue_in_bulk", QUESTIONS, USERS, "ask")
        wait_until_done(queue)
        cpu = workers.precise_cpu() - before
        return {f"µs of CPU of a question, {queue.name}": cpu / QUESTIONS * 1e6}

    return run


def writer_turn(queue: Queue, workers: Workers, stack: contextlib.ExitStack) -> Turn:
    """Start writers, which end with the stack. They write in each turn while the worker of the queue has jobs."""
    writers = [
        stack.enter_context(
            subprocess.Popen(
                [PYTHON, "-m", "bench.writer"],
                env=queue.environment,
                cwd=queue.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        for _ in range(WRITERS)
    ]

    def send_line() -> None:
        for writer in writers:
            assert writer.stdin
            writer.stdin.write("\n")
            writer.stdin.flush()

    def run() -> dict[str, float]:
        queue.call("enqueue_in_bulk", JOBS_BESIDE_WRITERS)
        active, start, before = sum(queue.call("counts").value), time.perf_counter(), workers.precise_cpu()
        send_line()
        wait_until_done(queue)
        rate = active / (time.perf_counter() - start)
        cpu = (workers.precise_cpu() - before) / active
        send_line()
        waits = sorted(
            wait for writer in writers if writer.stdout for wait in json.loads(writer.stdout.readline())
        )
        longest = waits[-max(1, int(len(waits) * JUDGED_PART)) :]
        return {
            f"ms that a writer waits, longest 5 %, {queue.name}": sum(longest) / len(longest),
            f"ms that a writer waits, p99 {NOT_JUDGED}, {queue.name}": waits[int(len(waits) * 0.99)],
            f"µs of CPU of a job beside {WRITERS} writers, {queue.name}": cpu * 1e6,
            f"jobs/s beside {WRITERS} writers {NOT_JUDGED}, {queue.name}": rate,
        }

    return run


def wait_until_done(queue: Queue) -> None:
    give_up_at = time.monotonic() + 60
    while any(queue.call("counts").value):
        if time.monotonic() > give_up_at:
            raise SystemExit(f"{queue.name}: jobs are still active after 60 s.\n{queue.read_log()}")
        time.sleep(0.02)
