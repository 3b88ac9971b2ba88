"""Lanes: what a worker must have free to claim a job.

``async``
    A slot.
``sync``
    A slot and a thread. Rows of an unknown kind are in this lane too.
``suspect``
    Jobs that were running when their worker was lost, one of which may have killed the process. A worker runs one of
    them at a time, so that a job that kills processes reaches its last attempt without taking the others along.

The lane only selects the jobs that are claimed. Slots and threads are counted by what the tasks are in this process. So
a job in the wrong lane, for example of a task that has become async since it was enqueued, runs as any other job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from inspect import iscoroutinefunction
from typing import Any

from notifications.jobs.results import find_task

ASYNC, SYNC, SUSPECT = LANES = ("async", "sync", "suspect")  # Job.Lane
#: How many jobs of each lane may be claimed, none of a lane that is left out.
Lanes = Mapping[str, int]


@lru_cache(maxsize=1000)
def lane_of(function: Callable[..., Any]) -> str:
    """Return the lane of the jobs of a task with this function."""
    return ASYNC if iscoroutinefunction(function) else SYNC


def lane_at(path: str) -> str:
    """Return the lane of the jobs of the task at a dotted path, SYNC if there is no such task."""
    try:
        return lane_of(find_task(path).func)
    except ImportError:
        return SYNC
