"""``manage.py run_jobs``: run a worker, or several in processes of their own."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import sys
import threading
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.utils import autoreload

from notifications.conf import settings
from notifications.db.schema import require_present_schema, require_tables
from notifications.db.threads import start_thread
from notifications.jobs.claiming.backlog import queue_depths
from notifications.jobs.claiming.queues import check_queue_name
from notifications.jobs.claiming.waiting_reasons import describe_depths
from notifications.management.management_command import ManagementCommand
from notifications.management.worker_processes import Supervisor
from notifications.worker.loops import RunLimit
from notifications.worker.watchdog import restart_when_stuck

if TYPE_CHECKING:
    from notifications.worker.worker import JobWorker

#: Seconds in which a worker that is reloaded requeues its jobs.
RELOAD_TIMEOUT_SECONDS = 5.0
#: Worker processes that one supervisor runs at most.
MAX_PROCESSES = 256


class Command(ManagementCommand):
    help = (
        "Run background jobs until SIGTERM, SIGHUP or Ctrl-C. "
        "Running jobs may then finish within NOTIFICATIONS['GRACE'] seconds; the others go back to the queue."
    )
    examples = (
        "",
        "--queue mail --queue default --concurrency 50",
        "--processes 4 --max-jobs 10000",
        "--until-idle",
        "--reload",
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--queue", action="append", default=[], help="run jobs of this queue only; may be repeated"
        )
        parser.add_argument(
            "--concurrency", type=int, help="jobs to run at a time (NOTIFICATIONS['CONCURRENCY'])"
        )
        parser.add_argument("--until-idle", action="store_true", help="end when no job is due and none runs")
        parser.add_argument(
            "--max-jobs",
            type=int,
            metavar="N",
            help="end after N jobs, in each process; a supervisor replaces it",
        )
        parser.add_argument(
            "--processes",
            type=int,
            metavar="N",
            help="run N worker processes, and replace those that crash or end",
        )
        parser.add_argument(
            "--reload", action="store_true", help="in development: start again when code changes"
        )
        # Of the processes of a supervisor: a descriptor, to end when it has been killed.
        parser.add_argument("--supervisor-pipe", type=int, help=SUPPRESS)
        # Of a command without a supervisor that calls this one: see notifications.asgi.begin_serving().
        parser.add_argument("--restarts", action="store_true", help=SUPPRESS)

    def handle(self, *args: Any, queue: list[str], concurrency: int | None, **options: Any) -> None:
        for name, value in (("concurrency", concurrency), ("max-jobs", options["max_jobs"])):
            if value is not None and value < 1:
                raise CommandError(f"--{name} is {value}. It must be 1 or more.")
        if options["restarts"]:
            restart_when_stuck()
        processes = options["processes"]
        if processes is not None and not 1 <= processes <= MAX_PROCESSES:
            raise CommandError(f"--processes is {processes}. It must be 1 to {MAX_PROCESSES}.")
        ends_by_itself = options["until_idle"] or options["max_jobs"] is not None
        if options["reload"] and (processes is not None or ends_by_itself):
            raise CommandError("--reload runs one worker until Ctrl-C. Leave out the other options.")
        try:
            for name in queue:
                check_queue_name(name)
            # With --until-idle nothing waits for tables: without them it would never be idle.
            require_tables() if options["until_idle"] else require_present_schema()
        except (ValueError, ImproperlyConfigured) as exc:
            raise CommandError(str(exc)) from exc
        if processes is not None:
            return self.supervise(processes, queue, concurrency, options)
        with empty_input():
            if options["reload"]:
                return autoreload.run_with_reloader(self.run_until_reload, queue, concurrency)
            limit = RunLimit(max_jobs=options["max_jobs"], until_idle=options["until_idle"])
            asyncio.run(self.run_worker(queue, concurrency, limit, options["supervisor_pipe"]))
            if options["until_idle"] and (left := queue_depths()).queues:
                self.stdout.write(f"Jobs are left: {describe_depths(left)}.")

    async def run_worker(
        self, queues: list[str], concurrency: int | None, limit: RunLimit, supervisor_pipe: int | None
    ) -> None:
        """Run a worker in this process until a signal, or until it ends by itself."""
        worker = self.make_worker(queues, concurrency, limit)
        loop = asyncio.get_running_loop()
        for number in stop_signals():
            loop.add_signal_handler(number, worker.stop)
        if supervisor_pipe is not None:
            os.set_inheritable(supervisor_pipe, False)
            start_thread(stop_with_supervisor, "notifications-supervisor", worker, supervisor_pipe)
        self.announce(worker)
        await worker.run()
        self.stdout.write("The worker has ended.")

    def run_until_reload(self, queues: list[str], concurrency: int | None) -> None:
        """Run a worker on the thread that Django's reloader has started; requeue its jobs when the process ends."""
        worker = self.make_worker(queues, concurrency, RunLimit())
        has_ended = threading.Event()

        def stop() -> None:
            worker.stop(grace=0)
            has_ended.wait(RELOAD_TIMEOUT_SECONDS)

        atexit.register(stop)
        self.announce(worker)
        try:
            asyncio.run(worker.run())
        finally:
            has_ended.set()

    def make_worker(self, queues: list[str], concurrency: int | None, limit: RunLimit) -> JobWorker:
        from notifications.realtime import doorbell
        from notifications.worker.worker import JobWorker

        return JobWorker(
            listen=doorbell.listen,
            queues=queues,
            concurrency=concurrency or settings.CONCURRENCY,
            run_limit=limit,
            is_process=True,
        )

    def announce(self, worker: JobWorker) -> None:
        self.stdout.write(
            f"Worker {worker.lease.worker} runs {worker.state.concurrency} jobs at a time. Ctrl-C ends it."
        )

    def supervise(
        self, processes: int, queues: list[str], concurrency: int | None, options: dict[str, Any]
    ) -> None:
        """Run several worker processes until a signal, or until all have ended by themselves."""
        arguments = ["run_jobs", "--skip-checks"]
        arguments += [part for name in queues for part in ("--queue", name)]
        for name, value in (
            ("concurrency", concurrency),
            ("max-jobs", options["max_jobs"]),
            ("settings", options["settings"]),
            ("pythonpath", options["pythonpath"]),
        ):
            arguments += [] if value is None else [f"--{name}", str(value)]
        arguments += ["--until-idle"] if options["until_idle"] else []
        self.stdout.write(f"{processes} worker processes run jobs. Ctrl-C ends them.")
        supervisor = Supervisor(
            [*program(), *arguments],
            processes,
            grace=settings.GRACE,
            replaces_finished=not options["until_idle"],
            write=self.stderr.write,
            stop_signals=tuple(stop_signals()),
        )
        if problem := supervisor.run():
            raise CommandError(problem)
        self.stdout.write("All worker processes have ended.")


def program() -> Sequence[str]:
    """Return the command that started this process, without its arguments."""
    if sys.argv[1:2] == ["run_jobs"]:
        command = [str(part) for part in autoreload.get_child_arguments()]
        return command[: len(command) - len(sys.argv[1:])]
    # It was called by code: another command, or a test.
    return [sys.executable, "-m", "django"]


def stop_with_supervisor(worker: JobWorker, pipe: int) -> None:
    """Stop a worker when the supervisor has ended, which holds the other end of this pipe."""
    os.read(pipe, 1)
    worker.stop()


def stop_signals() -> Iterator[signal.Signals]:
    """Yield the signals that stop the worker within the grace period: SIGHUP too, unless this runs under ``nohup``."""
    yield from (signal.SIGTERM, signal.SIGINT)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        yield signal.SIGHUP


@contextmanager
def empty_input() -> Iterator[None]:
    """Have programs that tasks start read the end of the file from standard input, if it is no terminal.

    A pipe that stays open, as supervisord makes, has one like ffmpeg or ssh wait for ever.
    """
    if sys.__stdin__ is None or os.isatty(0):  # None: it is closed, and 0 may be the descriptor of anything
        yield
        return
    original = os.dup(0)
    with open(os.devnull, "rb") as null:
        os.dup2(null.fileno(), 0)
    try:
        yield
    finally:
        os.dup2(original, 0)
        os.close(original)
