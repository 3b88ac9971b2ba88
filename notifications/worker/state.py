"""What the loops of one worker share."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from notifications.db.pools import limit_by_pool
from notifications.db.signal_queue import SignalQueue
from notifications.jobs.claiming.claim_queries import can_lock_first_jobs
from notifications.worker import loops
from notifications.worker.capacity import Executions
from notifications.worker.loops import RunLimit
from notifications.worker.writer import Writer

T = TypeVar("T")

logger = logging.getLogger("notifications.jobs")

#: Threads for sync tasks of a built-in worker.
MAX_SYNC_THREADS = 32


@dataclass(eq=False, kw_only=True)
class WorkerState:
    """What the loops of one worker share. Created on the event loop's thread or before the loop runs.

    ``worker``
        The id of the worker.
    ``queues``
        Names of queues; all if empty.
    ``concurrency``
        Jobs that run at once.
    ``sync_threads``
        Threads for sync tasks; at most ``MAX_SYNC_THREADS`` by default.
    """

    worker: UUID
    queues: tuple[str, ...]
    concurrency: int
    sync_threads: int | None = None
    run_limit: RunLimit = field(default_factory=RunLimit)
    #: The jobs that run or whose outcome is not stored yet, by claim.
    executions: Executions = field(default_factory=Executions)
    #: Seconds that tasks may take, None for no limit, by path, of the tasks that this worker has met.
    timeouts: dict[str, float | None] = field(default_factory=dict)
    signals: SignalQueue = field(default_factory=SignalQueue)
    #: The event loop, from the start of the worker on.
    loop: asyncio.AbstractEventLoop | None = None
    #: Whether it claims only jobs for which its running jobs wait. Set from any thread.
    is_quiet: bool = False

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self.writer = Writer(self.signals)
        # Where rows are locked, jobs are claimed while outcomes are committed.
        self.claim_writer = Writer(self.signals) if can_lock_first_jobs() else self.writer

    @property
    def max_sync_threads(self) -> int:
        """Threads for sync tasks, at most as many as a pool of connections has to spare."""
        return limit_by_pool(self.sync_threads or min(MAX_SYNC_THREADS, self.concurrency))

    @property
    def is_stopping(self) -> bool:
        """Whether the worker claims no more jobs."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Have the worker claim no more jobs; from any thread."""
        self._stopping.set()

    def call_in_loop(self, function: Callable[[], object]) -> None:
        """Call a function on the event loop, from any thread; not at all before its start and after its end."""
        if self.loop and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(function)

    async def retry_write(self, function: Callable[..., T], *args: object) -> T:
        """Run a call on the writer's thread, again until the database is there; while it stops the error is raised."""
        return await loops.retry_while_unavailable(
            lambda: self.writer.run(function, *args), lambda: self.is_stopping
        )

    def end(self) -> None:
        """End the threads when their calls are done."""
        self.signals.end()
        self.writer.end()
        self.claim_writer.end()
