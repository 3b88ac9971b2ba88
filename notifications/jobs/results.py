"""A job as the result of Django's Tasks API, which reads its state, return value and errors."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from functools import lru_cache
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from notifications import times
from notifications.compat import InvalidTask, Task, TaskError, TaskResult
from notifications.db.imports import import_path, require_module
from notifications.jobs.declaring.own_tasks import is_own_task
from notifications.jobs.declaring.policies import DEFAULT_POLICY, Policy, policy_of
from notifications.models import Job
from notifications.states import STATUS

CANCELLED = "notifications.exceptions.JobCancelled"


@lru_cache(maxsize=1000)
def find_task(path: str) -> Any:
    """Return the task at a dotted path. Raises ImportError, also when its module raises anything else."""
    require_module(path.rpartition(".")[0])
    task = import_path(path)
    # What stands there may be a task of another library, which says which task it stands for.
    task = task if isinstance(task, Task) else getattr(task, "job_task", None)
    if not isinstance(task, Task):
        raise ImportError(f"{path} is not a task. Is its @task decorator missing?")
    return task


def find_project_task(path: str) -> Any:
    """Return the task at a path that a person or a setting names, to enqueue jobs of it.

    Raises ImportError, also for an own task of an app: see ``own_task()``.
    """
    task = find_task(path)
    if is_own_task(task):
        raise ImportError(f"{path} is an own task of an app. Only its app enqueues it.")
    return task


def policy_at(path: str) -> Policy:
    """Return the policy of the task at a dotted path, the default one if there is no such task."""
    try:
        return policy_of(find_task(path).func)
    except ImportError:
        return DEFAULT_POLICY


def loaded_title_at(path: str) -> str:
    """Return the title that this task declares, which may name arguments, ``""`` if none is known without an import."""
    return str(policy_at(path).title) if path.rpartition(".")[0] in sys.modules else ""


def task_result(job: Job, *, task: Any = None, attempts: list[Any] | None = None) -> TaskResult:
    """Return the TaskResult of a job. Raises ImportError if its task no longer exists.

    ``attempts``
        The Attempt rows of the job, which are read if they are not given.
    """
    if task is None:
        task = find_task(job.task_path)
        options = (job.priority, job.queue_name, job.run_after, job.backend)
        run_after = task.run_after and times.as_utc(task.run_after)
        if options != (task.priority, task.queue_name, run_after, task.backend):
            # The queue or backend may be gone from the settings. The result is still of use without it.
            with suppress(InvalidTask, ImproperlyConfigured):
                task = task.using(
                    **dict(zip(("priority", "queue_name", "run_after", "backend"), options, strict=True))
                )
    if attempts is None:
        attempts = list(job.attempts.using(job._state.db).order_by("number")) if job.attempt else []
    workers = {attempt.number: str(attempt.worker) for attempt in attempts if attempt.worker}
    if job.attempt and job.worker:
        workers[job.attempt] = str(job.worker)
    errors = [
        TaskError(exception_class_path=attempt.exception_class_path, traceback=attempt.traceback)
        for attempt in attempts
        if attempt.exception_class_path
    ]
    if job.state == Job.State.CANCELLED and not (errors and errors[-1].exception_class_path == CANCELLED):
        # The job was cancelled while it was queued, so no attempt has this error.
        errors.append(TaskError(exception_class_path=CANCELLED, traceback=""))
    result = TaskResult(
        task=task,
        id=str(job.id),
        status=STATUS[Job.State(job.state)],
        enqueued_at=job.created_at,
        started_at=attempts[0].started_at if attempts else job.started_at,
        finished_at=job.finished_at,
        last_attempted_at=job.started_at,
        args=json.loads(job.args),
        kwargs=json.loads(job.kwargs),
        backend=job.backend,
        errors=errors,
        worker_ids=[workers[number] for number in sorted(workers)],
    )
    if job.result is not None:
        object.__setattr__(result, "_return_value", json.loads(job.result))
    return result
