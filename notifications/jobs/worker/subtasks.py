"""The asyncio tasks that jobs start beside themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from notifications.jobs.worker.execution import current
from notifications.models import Job


def make_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """Make an asyncio task; the task factory of the worker's loop. What a job starts cannot end the loop."""
    run = current()
    return asyncio.Task(_Contained(coro, run.job) if run else coro, loop=loop, **options)


def name_of(task: asyncio.Task[Any]) -> str:
    """Return what a task is: of which job, if a job has started it."""
    coro = task.get_coro()
    return name_for(coro.job) if isinstance(coro, _Contained) else task.get_name()


def name_for(job: Job) -> str:
    return f"{job.task_path} (job {job.id})"


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine whose ``sys.exit()`` is an ordinary error: asyncio would end the loop, and all other jobs with it.

    No ``async def`` around it: cancelled before its first step, that would never await the coroutine within.
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
            raise RuntimeError(f"Something that the task started raised {exc!r}.") from exc
