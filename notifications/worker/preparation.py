"""Prepare claimed jobs for their execution, and send ``task_started``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from notifications.compat import should_send, task_backends, task_started
from notifications.db import project_code, signal_queue
from notifications.jobs import results
from notifications.jobs.claiming.claimed_job import ClaimedJob
from notifications.jobs.enqueueing.owners import read_batch_owners
from notifications.jobs.insertion import signals_of
from notifications.jobs.transitions import running
from notifications.models import Job


def read_timeouts(jobs: Sequence[Job], timeouts: dict[str, float]) -> None:
    """Add to ``timeouts`` the seconds of tasks that are not in it, and set the deadlines of their jobs."""
    if new_paths := {job.task_path for job in jobs} - timeouts.keys():
        new_timeouts = {path: results.policy_at(path).timeout for path in new_paths}
        timeouts |= new_timeouts
        running.extend_deadlines([job for job in jobs if job.task_path in new_paths], new_timeouts)


def prepare_claimed_jobs(jobs: Sequence[ClaimedJob]) -> None:
    """Set ``owner`` and ``task_result`` of claimed jobs, and send ``task_started`` for each.

    A TaskResult is made only for a task that takes it, or for a receiver: it costs as much as the rest of a small job.
    On a worker the signals go through its signal queue, so a task may begin before a receiver is called.
    """
    batch_owners = read_batch_owners(claimed.row for claimed in jobs)
    has_receivers = should_send(task_started)
    started: list[tuple[Any, Any]] = []
    for claimed in jobs:
        job = claimed.row
        if job.id in batch_owners:
            claimed.owner = batch_owners[job.id]
        try:
            if not has_receivers and not results.find_task(job.task_path).takes_context:
                continue
            claimed.task_result = results.task_result(job, attempts=None if job.attempt > 1 else [])
            started.append((type(task_backends[job.backend]), claimed.task_result))
        except (ImportError, ImproperlyConfigured, ValueError):
            continue  # the execution requeues a job of an unknown task, and fails one with damaged arguments
    if has_receivers and started:
        signal_queue.send_later(lambda: _send_task_started(started), jobs=len(started))


def _send_task_started(started: Sequence[tuple[Any, Any]]) -> None:
    for backend, result in started:
        with signals_of(result.task.module_path):
            project_code.send(task_started, "task_started", backend, task_result=result)
