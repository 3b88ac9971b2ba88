"""Lanes: who may claim a job, and what a worker must have free for it.

``async``
    A slot.
``sync``
    A slot and a thread. Rows of an unknown kind are in this lane too.
``suspect``
    Jobs that were running when their worker was lost, one of which may have killed the process. A worker runs one of
    them at a time, so that a job that kills processes reaches its last attempt without taking the others along.
``engine``
    Jobs of a backend whose jobs an engine runs (``engines/``), while they wait to be handed over, and while they
    run. The built-in worker claims none of them.
``handed``
    Queued jobs whose ids were handed to their engine. A process of the engine claims a job by its id.
``isolated``
    Jobs of an engine that were running when their process was lost: what the lane "suspect" is to the built-in worker.
    They stay in it while they are queued, handed over and running. A process of an engine runs one of them at a time.
``observed``
    Executions of Celery tasks that are not jobs of this app. They are never claimed.

The lane only selects the jobs that are claimed. Slots and threads are counted by what the tasks are in this process. So
a job in the wrong lane, for example of a task that has become async since it was enqueued, runs as any other job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from inspect import iscoroutinefunction
from typing import Any

from notifications.compat import task_backends
from notifications.jobs.results import find_task

#: The values of ``Job.Lane`` that the built-in worker claims from. The stored words are older than the names.
ASYNC, SYNC, QUARANTINED = LANES = ("async", "sync", "suspect")
ENGINE, HANDED, ENGINE_QUARANTINED = ENGINE_LANES = ("engine", "handed", "isolated")
#: The lanes of queued jobs whose ids their engine may have.
HANDED_LANES = (HANDED, ENGINE_QUARANTINED)
#: The lanes of jobs of which one may have ended a process.
QUARANTINE_LANES = (QUARANTINED, ENGINE_QUARANTINED)
OBSERVED = "observed"
#: The queue of observed tasks that their publisher calls itself (``task_always_eager``). Celery does not deliver them
#: again, and only this app knows when their process has ended.
EAGER_QUEUE = "eager"
#: How many jobs of each lane may be claimed, none of a lane that is left out.
Lanes = Mapping[str, int]


@lru_cache(maxsize=1000)
def lane_of(function: Callable[..., Any]) -> str:
    """Return the lane of the jobs of a task with this function."""
    return ASYNC if iscoroutinefunction(function) else SYNC


def has_engine(backend: str) -> bool:
    """Return whether an engine runs the jobs of a backend (alias in ``TASKS``), in place of the built-in worker."""
    return bool(task_backends.settings.get(backend, {}).get("OPTIONS", {}).get("engine"))


def first_lane(path: str, backend: str) -> str:
    """Return the lane of a job of this task that is queued again."""
    return ENGINE if has_engine(backend) else lane_at(path)


def quarantine_lane(lane: str) -> str:
    """Return the lane of a job that was running in this lane when its worker was lost."""
    return ENGINE_QUARANTINED if lane in ENGINE_LANES else QUARANTINED


def lane_at(path: str) -> str:
    """Return the lane of the jobs of the task at a dotted path, SYNC if there is no such task."""
    try:
        return lane_of(find_task(path).func)
    except ImportError:
        return SYNC
