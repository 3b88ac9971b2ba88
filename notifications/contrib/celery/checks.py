"""The system checks of Celery's tasks whose calls are jobs, as far as their modules are imported."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery import Task, current_app
from django.core.checks import CheckMessage, Error, Warning, register

from notifications.contrib.celery.job_task import JobTask

#: What Celery calls at the end of a task, and what a job has in its place.
HANDLERS = ("before_start", "on_success", "on_failure", "on_retry", "after_return")
#: What of Celery's tasks a job does not have: what is wrong, how a task is found that has it, and the remedy.
LOST: tuple[tuple[str, Callable[[JobTask], Any], str], ...] = (
    (
        "SoftTimeLimitExceeded is not raised in jobs, which run on threads",
        lambda task: task.soft_time_limit or task.app.conf.task_soft_time_limit,
        "Remove soft_time_limit and CELERY_TASK_SOFT_TIME_LIMIT, which are the time_limit of tasks without one, and "
        "set time_limit. Then the job fails, and the task goes on until it returns: requests and queries in it need "
        "timeouts.",
    ),
    (
        "rate_limit does not limit jobs",
        lambda task: task.rate_limit,
        'Write @rate("100/m") of notifications.contrib.rates below the decorator of the task.',
    ),
    (
        f"{', '.join(HANDLERS)} are not called for jobs",
        lambda task: any(
            getattr(type(task), name, None) is not getattr(Task, name, None) for name in HANDLERS
        ),
        'Use a handler of "job.succeeded" or "job.failed" in NOTIFICATIONS["HANDLERS"].',
    ),
)


@register("notifications")
def check_job_tasks(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E015: a task is declared wrongly. W053: tasks have what jobs do not have."""
    with suppress(RuntimeError):  # an app with autofinalize=False that is not ready
        current_app.finalize(auto=True)
    tasks = [task for _, task in sorted(current_app._tasks.items()) if isinstance(task, JobTask)]
    found: list[CheckMessage] = []
    for task in tasks:
        try:
            _ = task.job_task
        except Exception as exc:
            found.append(Error(f"The task {task.name} is declared wrongly: {exc}", id="notifications.E015"))
    for problem, is_of, remedy in LOST:
        if names := [task.name for task in tasks if is_of(task)]:
            found.append(Warning(f"{problem}: {', '.join(names)}.", hint=remedy, id="notifications.W053"))
    return found
