"""The Django task and the policy that stand for a ``JobTask``."""

from __future__ import annotations

import inspect
from typing import Any

from notifications.api import task as declare_task
from notifications.contrib.celery.job_calls import queue_name_of
from notifications.contrib.celery.job_execution import make_function
from notifications.jobs import Policy, first_backend_alias, first_queue_name
from notifications.jobs.declaring.policies import change_policy, declared_policy


def make_job_task(task: Any) -> Any:
    """Return the Django task that stands for a task of Celery. Raises TypeError and ValueError for wrong options."""
    function = make_function(task)
    if inspect.iscoroutinefunction(getattr(task, "_orig_run", task.run)):
        raise TypeError(f"{task.name} is async, which Celery does not run: use @task of notifications.api.")
    declared = declared_policy(function)
    if declared.timeout != Policy().timeout:
        raise TypeError(f"{task.name} has its limit from time_limit: remove timeout from its @policy.")
    refuse_unknown_owner(task, inspect.signature(function))
    cls = type(task)
    options: dict[str, Any] = {"timeout": time_limit_of(task)}
    if cls.title:
        options["title"] = cls.title
    if cls.notify is not True:
        options["notify"] = cls.notify
    if cls.redact:
        options["redact"] = (*declared.redact, *cls.redact)
    if not task.acks_late:
        # Celery acknowledges the message before it calls the task, so that a task whose worker is lost is not called
        # again. Attempts that the task itself requests count apart.
        options["max_attempts"] = 1
    change_policy(function, **options)
    alias = first_backend_alias(task.name)
    queue = getattr(task, "queue", None)
    queue_name = queue_name_of(task, queue) if queue else first_queue_name(alias)
    return declare_task(backend=alias, queue_name=queue_name)(function)


def time_limit_of(task: Any) -> float | None:
    """Return the seconds that a job of the task may take, None for no limit.

    A soft limit is one where there is no other: the exception that Celery raises in the task at that time, it raises on
    the main thread of a process, and jobs run on other threads.
    """
    conf = task.app.conf
    limits = (task.time_limit, conf.task_time_limit, task.soft_time_limit, conf.task_soft_time_limit)
    return next((float(limit) for limit in limits if limit), None)


def refuse_unknown_owner(task: Any, signature: inspect.Signature) -> None:
    """Raise TypeError if ``owner`` names no argument of the task."""
    owner = type(task).owner
    if owner is None or callable(owner):
        return
    parameters = signature.parameters.values()
    if owner in signature.parameters or any(each.kind is each.VAR_KEYWORD for each in parameters):
        return
    raise TypeError(
        f"The owner {owner!r} of {task.name} is no argument of it. It may name: {', '.join(signature.parameters)}."
    )
