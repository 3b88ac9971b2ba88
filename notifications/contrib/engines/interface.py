"""What an engine is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from notifications.jobs.claiming.executors import SYNC, executor_at
from notifications.jobs.results import policy_at
from notifications.models import Job


@dataclass(frozen=True, kw_only=True, slots=True)
class DispatchedJob:
    """What an engine learns of a job that it is to run.

    ``fence``
        Is another number after the job was retried by hand.
    ``task_path``
        The dotted path of the task, for the engine's own lists and logs.
    ``priority``
        -100 to 100; higher ones first.
    ``is_async``
        Whether the task takes no place of the engine's own in its process: it is async, or sends an e-mail, as far as
        the process that sends the job knows.
    ``timeout``
        How long the task may take, which the process of the engine that runs it observes.
    """

    id: UUID
    fence: int
    task_path: str
    queue_name: str
    priority: int
    timeout: timedelta
    is_async: bool

    @property
    def message_id(self) -> str:
        """The id of the engine's message, so that one which was revoked says nothing about a later retry."""
        return f"{self.id}.{self.fence}"


class JobsRefused(Exception):
    """Raised by ``Engine.dispatch()``: the engine can be reached, and does not take some of the jobs.

    They are dispatched again after intervals that are twice as long each time.
    """


class Engine(ABC):
    """An external system that runs the jobs of one backend.

    ``alias``
        The alias of that backend in ``TASKS``.
    ``name``
        The option ``engine`` of the backend: a dotted path, or the alias of another backend.

    An engine may lose, double, delay and reorder what it is given: the rows decide.
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
        """The name that the processes of the engine pass to ``engines.process.run()``."""
        return self.name

    def taken_queues(self) -> set[str] | None:
        """Return the queues of jobs that live processes of the engine take, None if that is not known."""
        return None

    def has_idle_processes(self) -> bool | None:
        """Return whether processes of the engine are alive of which none has a row in the table of workers.

        None if that is not known, as of an engine whose processes have a row only while they run a job.
        """
        return None

    def start_advice(self, queue: str | None = None) -> str:
        """Return one sentence on how to start a process of the engine, or one that takes the jobs of a queue."""
        return f"Start a process of {self.label}" + (f" that takes the queue {queue}." if queue else ".")

    @abstractmethod
    def dispatch(self, jobs: Sequence[DispatchedJob]) -> None:
        """Have a process of the engine call ``engines.process.run(id)`` for each of these committed jobs.

        Called on a thread of its own, so that it may block, but not for ever. Raises ``JobsRefused``, or any other
        exception if the engine cannot be reached: all of these jobs are then dispatched again within seconds of its
        return.
        """

    def revoke(self, jobs: Sequence[DispatchedJob]) -> None:  # noqa: B027 (optional)
        """Drop jobs that were cancelled, where the engine can. If it does not, their ids have no effect."""

    def check(self) -> list[Any]:
        """Return Django's check messages for what can be known without reaching the engine."""
        return []

    def ping(self) -> str:
        """Return one sentence about the engine for ``doctor``. Raises any exception if it cannot be reached."""
        return ""


def dispatched_job(job: Job) -> DispatchedJob:
    return DispatchedJob(
        id=job.id,
        fence=job.fence,
        task_path=job.task_path,
        queue_name=job.queue_name,
        priority=job.priority,
        timeout=timedelta(seconds=policy_at(job.task_path).timeout),
        is_async=executor_at(job.task_path) != SYNC,
    )
