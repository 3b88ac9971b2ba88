"""Declare the tasks of this app, also where ``TASKS`` is wrong: ``doctor`` must start to name what is wrong with it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from notifications.compat import task

logger = logging.getLogger("notifications")

_EXECUTOR_ATTRIBUTE = "_notifications_executor"


def own_task(
    *, queue_name: Callable[[], str] = lambda: "default", executor: str = "", **options: Any
) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function as ``@task`` does. With a wrong ``TASKS`` it stays a function, and an error is logged.

    ``queue_name``
        Returns the queue of the task. It may read ``TASKS``.
    ``executor``
        SENDER or EMAIL for a task that calls servers of others: see ``jobs/claiming/executors.py``.
    ``options``
        Others of ``@task``.
    """

    def declare(function: Callable[..., Any]) -> Any:
        if executor:
            setattr(function, _EXECUTOR_ATTRIBUTE, executor)
        try:
            return task(queue_name=queue_name(), **options)(function)
        except Exception as exc:  # each backend of the project may raise anything
            name = f"{function.__module__}.{function.__qualname__}"
            logger.error("Could not declare the task %s, because TASKS is wrong: %s", name, exc)
            return function

    return declare


def own_executor_of(function: Callable[..., Any]) -> str:
    """Return the executor of a task of this app that has one of its own, else an empty text."""
    return getattr(function, _EXECUTOR_ATTRIBUTE, "")
