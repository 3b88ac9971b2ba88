"""Declare the tasks of this app, also where ``TASKS`` is wrong: ``doctor`` must start to name what is wrong with it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from notifications.compat import task

logger = logging.getLogger("notifications")


def own_task(
    *, queue_name: Callable[[], str] = lambda: "default", **options: Any
) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function as ``@task`` does. With a wrong ``TASKS`` it stays a function, and an error is logged.

    ``queue_name``
        Returns the queue of the task. It may read ``TASKS``.
    ``options``
        Others of ``@task``.
    """

    def declare(function: Callable[..., Any]) -> Any:
        try:
            return task(queue_name=queue_name(), **options)(function)
        except Exception as exc:  # each backend of the project may raise anything
            name = f"{function.__module__}.{function.__qualname__}"
            logger.error("Could not declare the task %s, because TASKS is wrong: %s", name, exc)
            return function

    return declare
