"""The asyncio tasks that jobs start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from notifications.context import current_execution

if TYPE_CHECKING:
    from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

#: Seconds in which cancelled tasks of a job that is suspended may end.
MAX_CANCEL_SECONDS = 5.0


def make_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """Make an asyncio task: the task factory of the worker's loop. A task that a job starts cannot end the loop."""
    execution = current_execution()
    return asyncio.Task(_ContainedCoroutine(coro, execution.job) if execution else coro, loop=loop, **options)


def is_subtask(task: asyncio.Task[Any]) -> bool:
    """Return whether a job started this asyncio task."""
    return isinstance(task.get_coro(), _ContainedCoroutine)


async def cancel_all(job: Job) -> None:
    """Cancel the asyncio tasks that a job has started, and wait for a short time until they have ended."""
    tasks = [
        task
        for task in asyncio.all_tasks()
        if isinstance(coro := task.get_coro(), _ContainedCoroutine) and coro.job is job
    ]
    for task in tasks:
        task.cancel()
    if tasks:
        _, running = await asyncio.wait(tasks, timeout=MAX_CANCEL_SECONDS)
        if running:
            logger.warning("Tasks that job %s has started do not end when it waits: %d", job.id, len(running))


def name_of(task: asyncio.Task[Any]) -> str:
    """Return the name of an asyncio task: that of the job that started it, if a job did."""
    coro = task.get_coro()
    return name_for(coro.job) if isinstance(coro, _ContainedCoroutine) else task.get_name()


def name_for(job: Job) -> str:
    return f"{job.task_path} (job {job.id})"


class _ContainedCoroutine(Coroutine[Any, Any, Any]):
    """A coroutine whose SystemExit or KeyboardInterrupt becomes a RuntimeError.

    asyncio would end the loop, and all other jobs with it. This is not an ``async def`` around the coroutine: cancelled
    before its first step, that would never await the coroutine inside.
    """

    def __init__(self, coro: Any, job: Job) -> None:
        self._coro = coro
        self.job = job

    def send(self, value: Any) -> Any:
        return self._step(self._coro.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._coro.throw, *error)

    def close(self) -> None:
        self._coro.close()

    def __await__(self) -> Any:
        return self._coro.__await__()

    def _step(self, step: Any, *args: Any) -> Any:
        try:
            return step(*args)
        except (SystemExit, KeyboardInterrupt) as exc:
            raise RuntimeError(f"A task that the job started raised {exc!r}.") from exc
