"""The tasks of schedules, which must exist and take the declared arguments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from notifications.contrib.schedules.declarations import (
    ScheduleDeclaration,
    declared_schedules,
    wrong_declarations,
)
from notifications.extension import WrongDeclaration
from notifications.jobs import find_project_task, stores_jobs


def find_wrong_tasks() -> Iterator[WrongDeclaration]:
    """Yield the valid declarations whose task does not exist or cannot be called like that. Imports the tasks."""
    for name, declaration in declared_schedules().items():
        try:
            scheduled_task(declaration)
        except ScheduledTaskError as exc:
            yield WrongDeclaration(exc.id, f"NOTIFICATIONS['SCHEDULES'][{name!r}]: {exc}", exc.hint)


def find_wrong_schedules() -> list[WrongDeclaration]:
    """Return W020 to W025: what is wrong with declarations of schedules. Imports the tasks."""
    return [*wrong_declarations(), *find_wrong_tasks()]


class ScheduledTaskError(Exception):
    """The task of a schedule cannot be enqueued; with ``id`` and ``hint`` of the system check."""

    def __init__(self, id: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.id, self.hint = id, hint


def scheduled_task(declaration: ScheduleDeclaration) -> Any:
    """Return the task of a schedule, with its queue. Raises ``ScheduledTaskError``."""
    path = declaration.task_path
    try:
        task = find_project_task(path)
    except ImportError as exc:
        raise ScheduledTaskError(
            "notifications.W021",
            str(exc),
            "Write the dotted path of a function with @task; a coroutine function may be one.",
        ) from exc
    if not stores_jobs(task.backend):
        raise ScheduledTaskError(
            "notifications.W021",
            f"the task {path} belongs to the backend {task.backend!r}, which stores no jobs in this app.",
            "Declare it with @task(backend=…) for a backend whose BACKEND is notifications.jobs.backend.JobBackend.",
        )
    try:
        task.get_backend().check_arguments(task, declaration.args, declaration.kwargs)
    except TypeError as exc:
        raise ScheduledTaskError(
            "notifications.W023",
            f"args and kwargs are wrong: {exc}",
            "Correct args and kwargs.",
        ) from exc
    if not declaration.queue:
        return task
    queues = task.get_backend().queues
    if queues and declaration.queue not in queues:
        raise ScheduledTaskError(
            "notifications.W025",
            f"queue is {declaration.queue!r}, and the backend {task.backend!r} has {', '.join(sorted(queues))}.",
            "Add it to QUEUES of the task's backend.",
        )
    return task.using(queue_name=declaration.queue)
