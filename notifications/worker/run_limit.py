"""When a worker ends by itself: after a number of jobs, or when it has nothing to do."""

from __future__ import annotations


class RunLimit:
    """Counts the jobs that a worker has started, and decides when it is done.

    ``max_jobs``
        Jobs that it starts at most, except those for which its running jobs wait. None: no limit.
    ``until_idle``
        It is done when it runs no job and finds none that is due. Jobs for later are not waited for.
    """

    def __init__(self, *, max_jobs: int | None = None, until_idle: bool = False) -> None:
        self._max_jobs = max_jobs
        self._until_idle = until_idle
        self._started = 0

    @property
    def ends_by_itself(self) -> bool:
        """Whether the worker ends without being stopped."""
        return self._until_idle or self._max_jobs is not None

    def reduce(self, limit: int) -> int:
        """Return how many of ``limit`` jobs may still be started."""
        return limit if self._max_jobs is None else max(0, min(limit, self._max_jobs - self._started))

    def add_started(self, count: int) -> None:
        """Count started jobs."""
        self._started += count

    def is_reached_when_idle(self) -> bool:
        """Return whether a worker is done that runs no job and has found none."""
        return self._until_idle or (self._max_jobs is not None and self._started >= self._max_jobs)
