"""The tasks of this app: how they are declared, and in which queues.

They are declared also where ``TASKS`` is wrong: ``doctor`` must start to name what is wrong with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from notifications.compat import DEFAULT_TASK_BACKEND_ALIAS, Task, task, task_backends
from notifications.db.unavailable import RETRIED_ERRORS
from notifications.jobs.declaring.policies import change_policy, declared_policy
from notifications.jobs.declaring.tasks import has_engine, has_job_tasks, refuse_backend

logger = logging.getLogger("notifications")

#: The queue of tasks that call servers of others.
SENDER_QUEUE = "deliveries"

#: The mark of the function of an own task: its executor, which is empty for one of the executors of the project.
_MARK = "_notifications_own_task"


def own_task(
    *, executor: Any = "", has_backend: bool = True, **options: Any
) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function of an app as ``@task`` does. With a wrong ``TASKS`` it stays a function, which is logged.

    Only the app enqueues its jobs: no form, command or setting does, so their arguments are what the app has written.
    Who acts is never one of them, but the owner of the job or what a row says.

    ``executor``
        ``notifications.worker.SENDER``, or ``EMAIL`` for a sync function, for a task that calls servers of others: its
        jobs have slots and threads beside those of the project's, and a queue of their own where one is served.
    ``has_backend``
        False for a task that a backend of another package runs. It may be the only one in ``TASKS``, with any queues.
    ``options``
        Others of ``@task``. The queue follows from ``TASKS``.

    An error that means that the database is away is one of ``retry_on`` of each policy.
    """

    def declare(function: Callable[..., Any]) -> Any:
        setattr(function, _MARK, str(executor))  # not the member of an enum
        declared: Any = declared_policy(function).retry_on
        change_policy(function, retry_on=(*declared, *RETRIED_ERRORS))
        if not has_backend:
            return _make_bare_task(function)
        try:
            queue = sender_queue_name() if executor else first_queue_name()
            return task(queue_name=queue, **options)(function)
        except Exception as exc:  # each backend of the project may raise anything
            name = f"{function.__module__}.{function.__qualname__}"
            logger.error("Could not declare the task %s, because TASKS is wrong: %s", name, exc)
            return function

    return declare


def _make_bare_task(function: Callable[..., Any]) -> Any:
    """Return a task that no backend has validated: the backend "default" may lack the queue "default"."""
    made = object.__new__(Task)
    for field in fields(Task):
        object.__setattr__(made, field.name, function if field.name == "func" else field.default)
    return made


def is_own_task(task: Any) -> bool:
    """Return whether only its app enqueues jobs of a task."""
    return hasattr(task.func, _MARK)


def own_executor_of(function: Callable[..., Any]) -> str:
    """Return the executor of a task of this app that has one of its own, else an empty text."""
    return getattr(function, _MARK, "")


def first_backend_alias(what: str) -> str:
    """Return the alias of the first backend in ``TASKS`` that enqueues jobs of this app.

    Raises ``ImproperlyConfigured`` if there is none. ``what`` is the call that needs it, for the message.
    """
    for alias in task_backends.settings:
        if has_job_tasks(task_backends[alias]):
            return alias
    refuse_backend(DEFAULT_TASK_BACKEND_ALIAS, what)


def using_first_backend(task: Any, **options: Any) -> Any:
    """Return a task of ``own_task()`` for the first backend in ``TASKS`` that enqueues jobs of this app.

    ``options``
        Of ``.using()``, which on a backend of another package takes no title and no owner.

    Raises ``ImproperlyConfigured`` if there is no such backend, and AttributeError for a task that a wrong ``TASKS``
    has left a function.
    """
    alias = first_backend_alias(task.module_path)
    return task.using(backend=alias, queue_name=first_queue_name(alias), **options)


def first_queue_name(alias: str = "default") -> str:
    """Return ``default``, or else the first queue, of those that a backend in ``TASKS`` has."""
    queues = task_backends[alias].queues
    return "default" if not queues or "default" in queues else min(queues)


def sender_queue_name() -> str:
    """Return ``deliveries``, or another queue where the default backend or its engine does not serve this one."""
    queues = task_backends["default"].queues
    is_served = SENDER_QUEUE in queues if queues else not has_engine("default")
    return SENDER_QUEUE if is_served else first_queue_name()
