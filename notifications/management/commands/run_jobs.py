"""``manage.py run_jobs``: run a worker."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from notifications.conf import settings
from notifications.jobs.claiming.queues import check_queue_name
from notifications.management.management_command import ManagementCommand


class Command(ManagementCommand):
    help = (
        "Run background jobs until SIGTERM or Ctrl-C. "
        "Running jobs may then finish within NOTIFICATIONS['GRACE'] seconds; the others go back to the queue."
    )
    examples = ("", "--queue mail --queue default --concurrency 50")

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--queue", action="append", default=[], help="run jobs of this queue only; may be repeated"
        )
        parser.add_argument(
            "--concurrency", type=int, help="jobs to run at a time (NOTIFICATIONS['CONCURRENCY'])"
        )

    def handle(self, *args: Any, queue: list[str], concurrency: int | None, **options: Any) -> None:
        if concurrency is not None and concurrency < 1:
            raise CommandError(f"--concurrency is {concurrency}. It must be 1 or more.")
        try:
            for name in queue:
                check_queue_name(name)
        except ValueError as exc:
            raise CommandError(str(exc)) from exc
        asyncio.run(self.run_worker(queue, concurrency or settings.CONCURRENCY))

    async def run_worker(self, queues: list[str], concurrency: int) -> None:
        from notifications.jobs.engines import handover, has_engines
        from notifications.jobs.worker.worker import JobWorker
        from notifications.realtime import doorbell

        reset_signals_in_forks()
        worker = JobWorker(
            listen=doorbell.listen,
            queues=queues,
            concurrency=concurrency,
            hand_over=handover.run_round if has_engines() else None,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        self.stdout.write(f"Worker {worker.lease.worker} runs {concurrency} jobs at a time. Ctrl-C ends it.")
        await worker.run()
        self.stdout.write("The worker has ended.")


def reset_signals_in_forks() -> None:
    """Reset the handlers of SIGTERM and SIGINT in processes that tasks fork.

    A fork inherits the worker's handlers and, before Python 3.12, the pipe by which asyncio receives signals: SIGTERM
    for the child would stop the worker. Signals are blocked until the child has reset them.
    """
    signals = {signal.SIGTERM, signal.SIGINT}
    thread = threading.local()

    def before() -> None:
        thread.mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def after() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, thread.mask)

    def after_in_child() -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        after()

    os.register_at_fork(before=before, after_in_parent=after, after_in_child=after_in_child)
