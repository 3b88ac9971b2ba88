"""Lanes: which jobs a worker may claim with what it has free.

    async     needs a slot
    sync      needs a slot and a thread; rows of unknown kind are in this lane too
    suspect   was running when its worker was lost, and may be what ended the process: one at a time in each worker, so
              that the job that ends processes meets its last attempt without the others

The lane says which jobs are looked for. How many slots and threads are taken is counted by what the tasks are in this
process, so a job in the wrong lane, of a task that has become async since, say, runs as any other one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from inspect import iscoroutinefunction
from typing import Any

from notifications.jobs.results import find_task

ASYNC, SYNC, SUSPECT = LANES = ("async", "sync", "suspect")  # Job.Lane
#: How many jobs of each lane may be claimed; none of one that is left out.
Lanes = Mapping[str, int]


@lru_cache(maxsize=1000)
def lane_of(function: Callable[..., Any]) -> str:
    """Return the lane of jobs that call this function."""
    return ASYNC if iscoroutinefunction(function) else SYNC


def lane_at(path: str) -> str:
    """Return the lane of jobs of the task at a dotted path; that of sync tasks where there is no such task."""
    try:
        return lane_of(find_task(path).func)
    except ImportError:
        return SYNC
