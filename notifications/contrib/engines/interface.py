"""What an engine is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class Engine(ABC):
    """An external system whose processes run the jobs of one backend.

    ``alias``
        The alias of that backend in ``TASKS``.
    ``name``
        The option ``engine`` of the backend: a dotted path, or the alias of another backend.

    An engine may lose, double, delay and reorder messages: they name no job, and another one follows.
    """

    def __init__(self, alias: str, name: str) -> None:
        self.alias = alias
        self.name = name

    @property
    def label(self) -> str:
        """What ``doctor``, the log and the admin call the engine."""
        return self.name

    @property
    def process_name(self) -> str:
        """The name of the engine in the list of workers, where each of its processes has a row while it works."""
        return self.name

    def taken_queues(self) -> set[str] | None:
        """Return the queues of jobs that live processes of the engine take, None if that is not known."""
        return None

    def has_idle_processes(self) -> bool | None:
        """Return whether processes of the engine are alive that have no row in the table of workers.

        None if that is not known.
        """
        return None

    def start_advice(self, queue: str | None = None) -> str:
        """Return one sentence on how to start a process of the engine, or one that takes the jobs of a queue."""
        return f"Start a process of {self.label}" + (f" that takes the queue {queue}." if queue else ".")

    @abstractmethod
    def wake(self, queue: str, count: int, *, expires: float) -> None:
        """Have up to ``count`` processes that take a queue call ``process.run_waiting(queue, backend=alias)``.

        A message may be dropped after ``expires`` seconds. Called on a thread of its own, so that it may block, but not
        for ever. Raises any exception if the engine cannot be reached: it is called again some seconds later.
        """

    def check(self) -> list[Any]:
        """Return Django's check messages for what can be known without reaching the engine."""
        return []

    def ping(self) -> str:
        """Return one sentence about the engine for ``doctor``. Raises any exception if it cannot be reached."""
        return ""
