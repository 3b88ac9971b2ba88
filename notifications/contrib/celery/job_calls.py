"""From the call of a ``JobTask`` to the row of its job.

No model is imported: the modules of tasks may be imported before the models are ready.
"""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from celery.utils.time import maybe_iso8601, maybe_make_aware
from django.utils import timezone

from notifications import jobs, validators
from notifications.contrib.celery.job_arguments import encode_arguments
from notifications.jobs.declaring.policies import job_title

#: The options of a call that another task follows.
FOLLOWING = ("link", "link_error", "chain", "chord")
#: What takes the place of what a job does not have, by the names of options of Celery's calls.
REFUSED_OPTIONS = {
    "link": 'a handler of "job.succeeded" in NOTIFICATIONS["HANDLERS"]',
    "link_error": 'a handler of "job.failed" in NOTIFICATIONS["HANDLERS"]',
    "chain": "one task with steps, or a task that enqueues the next one",
    "chord": "batch() of notifications.api, for whose end another task waits by join()",
    "time_limit": "time_limit of the task",
    "soft_time_limit": "time_limit of the task",
}


def refuse_options(task: Any, options: Mapping[str, Any]) -> None:
    """Raise TypeError for options of a call that a job does not have. Those that only a broker needs have no effect."""
    for name, remedy in REFUSED_OPTIONS.items():
        if options.get(name):
            raise TypeError(f"{task.name} is a job, which takes no {name}: use {remedy}.")


def enqueue(
    task: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    task_id: str | None = None,
    group_id: str | None = None,
    countdown: float | None = None,
    eta: datetime | str | None = None,
    expires: float | datetime | str | None = None,
    queue: Any = None,
    priority: int | None = None,
) -> str:
    """Insert the job of a call in the caller's transaction, or find the one that its ``task_id`` stands for.

    Returns the id of the job. Raises TypeError and ValueError for wrong arguments, and as ``enqueue()`` of the job's
    task does.
    """
    job_task = task.job_task
    try:
        jobs.find_project_task(job_task.module_path)
    except ImportError as exc:
        raise TypeError(
            f"The task {task.name} must stand at the top level of its module, by the name of its function: {exc}"
        ) from exc
    args, kwargs = list(args), dict(kwargs)
    values = _bind(task, args, kwargs)
    stored_args, stored_kwargs = encode_arguments(task.name, args, kwargs)
    options: dict[str, Any] = {"owner": _find_owner(task, args, kwargs, values)}
    if url := _make_url(task, args, kwargs, values):
        options["url"] = url
    if (stored_args, stored_kwargs) != (args, kwargs):
        options["title"] = job_title(job_task.func, False, args, kwargs)  # a date, not how it is stored
    if task_id is not None:
        options["key"] = task_id
    if (run_after := moment(countdown or eta)) is not None:
        options["run_after"] = run_after
    if (expires_at := moment(expires)) is not None:
        options["expires"] = expires_at
    if queue:
        options["queue_name"] = queue_name_of(task, queue)
    if priority is not None:
        options["priority"] = priority
    job_task = job_task.using(**options)
    if group_id:
        group = validators.shortened(group_id, validators.MAX_NAME_LENGTH)
        job_task = replace(job_task, options=job_task.options._replace(inbox_group=group))
    return str(job_task.enqueue(*stored_args, **stored_kwargs).id)


def moment(value: float | datetime | str | None) -> datetime | None:
    """Return a time of a call as an aware datetime: seconds from now, or as Celery reads it, a naive one as UTC.

    Raises ValueError for what is neither.
    """
    if value is None:
        return None
    if isinstance(value, numbers.Real):
        return timezone.now() + timedelta(seconds=float(value))
    read: datetime = maybe_make_aware(maybe_iso8601(value))
    return read


def queue_name_of(task: Any, queue: Any) -> str:
    """Return the queue of jobs for one of Celery's or its name: the default one of each stands for the other."""
    name = str(getattr(queue, "name", queue))
    return "default" if name == task.app.conf.task_default_queue else name


def _bind(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments by their names, with defaults."""
    signature = inspect.signature(task.job_task.func)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as exc:
        raise TypeError(f"{task.name}{signature} cannot be called with these arguments: {exc}.") from exc
    bound.apply_defaults()
    return {**bound.arguments, **kwargs}


def _find_owner(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """Return the user or key that the task's ``owner`` says, None for that of the context."""
    owner = type(task).owner  # not of the instance, which would bind a function
    return owner(*args, **kwargs) if callable(owner) else values.get(owner) if owner else None


def _make_url(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    url = type(task).url
    if callable(url):
        return str(url(*args, **kwargs))
    return url.format(**{name: quote(str(value), safe="") for name, value in values.items()})
