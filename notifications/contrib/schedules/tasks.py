"""The tasks of schedules, which must exist and take the declared arguments."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from notifications.contrib.schedules.declarations import (
    ScheduleDeclaration,
    declared_schedules,
    label_of,
    wrong_declarations,
)
from notifications.contrib.schedules.offers import (
    declare_offer,
    find_offers,
    find_wrong_offers,
    label_of_offer,
)
from notifications.db import import_path
from notifications.extension import WrongDeclaration
from notifications.jobs import find_project_task, stores_jobs

logger = logging.getLogger("notifications.jobs")


def find_wrong_tasks() -> Iterator[WrongDeclaration]:
    """Yield the valid declarations whose task does not exist or cannot be called like that. Imports the tasks."""
    declared = [(label_of(name), each) for name, each in declared_schedules().items()]
    for label, declaration in [
        *declared,
        *((label_of_offer(name), declare_offer(name)) for name in find_offers()),
    ]:
        try:
            scheduled_task(declaration)
        except ScheduledTaskError as exc:
            yield WrongDeclaration(exc.id, f"{label}: {exc}", exc.hint)


def find_wrong_schedules() -> list[WrongDeclaration]:
    """Return W020 to W025: what is wrong with declarations of schedules. Imports the tasks."""
    return [*import_tasks(), *wrong_declarations(), *find_wrong_tasks(), *find_wrong_offers()]


def import_tasks() -> tuple[WrongDeclaration, ...]:
    """Import the modules ``tasks`` of apps, for the schedules that ``@every`` declares there.

    Returns what is wrong with them.
    """
    wrong = []
    for app in apps.get_app_configs():
        if app.name.startswith("notifications.") or not module_has_submodule(app.module, "tasks"):
            continue
        try:
            import_path(f"{app.name}.tasks.__name__")
        except ImportError as exc:
            message = f"No schedule of @every in {app.name}.tasks runs: {exc}"
            wrong.append(WrongDeclaration("notifications.W021", message, "Correct the module."))
            logger.exception("Could not import the tasks of an app: %s", app.name)
    return tuple(wrong)


def list_tasks() -> list[str]:
    """Return the dotted paths of the tasks in the modules ``tasks`` of apps, but own tasks of apps."""
    import_tasks()
    found = set()
    for app in apps.get_app_configs():
        for value in vars(sys.modules.get(f"{app.name}.tasks", object)).values():
            path = getattr(value, "module_path", "")
            if isinstance(path, str) and path and hasattr(value, "enqueue"):
                with suppress(ImportError):
                    find_project_task(path)
                    found.add(path)
    return sorted(found)


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
