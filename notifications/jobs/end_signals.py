"""Send the signals of finished jobs: Django's ``task_finished``, and those of this app."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from notifications.compat import should_send, task_backends, task_finished
from notifications.db import project_code, signal_queue
from notifications.db.unavailable import QUERY_ERRORS
from notifications.jobs import results
from notifications.jobs.notifying import signals_of
from notifications.jobs.outcomes import Outcome
from notifications.jobs.tracebacks import drop_tracebacks
from notifications.models import Job, Notification
from notifications.signals import job_finished, notification_recorded
from notifications.tracing.error_trackers import error_scope

logger = logging.getLogger("notifications.jobs")


def send_signals_of_ends(ended: Sequence[Outcome]) -> None:
    """Send the signals of finished jobs, after the commit. On a worker they go through its signal queue.

    Receivers are the last readers of the exceptions of its jobs. Elsewhere these are the caller's.
    """
    if not ended:
        return
    has_receivers = _have_ends_receivers(ended)
    if not has_receivers and not any(outcome.exception for outcome in ended):
        return
    queue = signal_queue.queue_of_this_thread()
    if queue is None:
        if has_receivers:
            _send_ends(ended)
        return
    size = sum(len(outcome.job.result or "") for outcome in ended)
    if not has_receivers or not queue.put(lambda: _send_last(ended), jobs=len(ended), size=size):
        _drop_tracebacks_of(ended)


def _send_last(ended: Sequence[Outcome]) -> None:
    try:
        _send_ends(ended)
    finally:
        _drop_tracebacks_of(ended)


def _drop_tracebacks_of(ended: Sequence[Outcome]) -> None:
    for outcome in ended:
        drop_tracebacks(outcome.exception)


def _have_ends_receivers(ended: Sequence[Outcome]) -> bool:
    if job_finished.receivers or notification_recorded.receivers:
        return True
    return any(should_send(task_finished, level) for level in {_level(outcome) for outcome in ended})


def _level(outcome: Outcome) -> int:
    return logging.INFO if outcome.job.state == Job.State.SUCCEEDED else logging.ERROR


def _send_ends(ended: Sequence[Outcome]) -> None:
    for outcome in ended:
        with signals_of(outcome.job.task_path), error_scope(outcome.job):
            if should_send(task_finished, _level(outcome)):
                _send_task_finished(outcome)
            project_code.send(job_finished, "job_finished", Job, job=outcome.job)
            if row := outcome.notification:
                project_code.send(
                    notification_recorded, "notification_recorded", Notification, notification=row
                )


def _send_task_finished(outcome: Outcome) -> None:
    job = outcome.job
    try:
        backend = type(task_backends[job.backend])
        attempts: list[Any] | None = None if job.attempt > 1 or outcome.attempt else []
        result = results.task_result(job, attempts=attempts)
    except (ImportError, ImproperlyConfigured, ValueError):
        return  # without its task or backend, or with damaged arguments, a job has no TaskResult
    except QUERY_ERRORS as exc:
        logger.warning("Could not send task_finished for job %s: %s", job.id, exc)
        return
    _call_while_handling(
        outcome.exception,
        lambda: project_code.send(task_finished, "task_finished", backend, task_result=result),
    )


def _call_while_handling(exc: BaseException | None, function: Callable[[], None]) -> None:
    """Call ``function`` while an exception is being handled.

    Django's own receiver and the clients of error trackers read it, with its traceback, from ``sys.exc_info()``.
    """
    if exc is None:
        return function()
    trace = exc.__traceback__
    try:
        raise exc
    except type(exc) as raised:
        raised.__traceback__ = trace  # without this frame
        function()
