"""Finish jobs: record their outcomes, then send the signals and end the batches that are complete."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured

from notifications.compat import should_send, task_backends, task_finished
from notifications.db import project_code, signal_queue
from notifications.db.unavailable import QUERY_ERRORS
from notifications.jobs import results
from notifications.jobs.notifying import signals_of
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions import batch_completion, notify_functions, recording
from notifications.jobs.transitions.claims import Claim, claim_of
from notifications.models import Job, Notification
from notifications.signals import job_finished, notification_recorded
from notifications.tracing.error_trackers import error_scope

logger = logging.getLogger("notifications.jobs")

#: How often to try to end a batch whose row another process holds, and the seconds between two tries. After that a
#: worker's maintenance ends it.
BATCH_TRIES, BATCH_RETRY_SECONDS = 5, 0.005


def finish_jobs(group: Sequence[Outcome]) -> set[Claim]:
    """Record outcomes, send the signals, and end the batches that are complete.

    ``notify`` functions that were not called yet are called first, and waited for.

    Returns the claims whose outcomes are stored or void. The others must be tried again. Raises like
    ``record_outcomes``.
    """
    stored, void_outcomes = recording.record_outcomes(notify_functions.call_all(group))
    _follow_ends(stored)
    for outcome in void_outcomes:
        # A batch has no worker: another process has ended it.
        if outcome.job.worker is not None:
            logger.warning(
                "Outcome is void: another worker has claimed job %s, or its end is stored already",
                outcome.job.id,
            )
    return {claim_of(outcome.job) for outcome in (*stored, *void_outcomes)}


def end_jobs(lock_rows: recording.LockRows, **options: Any) -> list[Outcome]:
    """Record outcomes as ``recording.record`` does, send the signals, and end the batches that are complete.

    Returns the outcomes that ``lock_rows`` returned.
    """
    recorded = recording.record(lock_rows, **options)
    _follow_ends(recorded)
    return recorded


def _follow_ends(recorded: Sequence[Outcome]) -> None:
    """Send the signals of the jobs that have ended, and end their batches."""
    ended = [outcome for outcome in recorded if outcome.is_end]
    _send_signals(ended)
    if batches := [outcome.job.batch for outcome in ended if outcome.job.batch]:
        finish_batches(batches)


def finish_batches(batches: Iterable[UUID]) -> None:
    """End those of these batches that have no active job any more, and store the progress of the others.

    Errors are logged, not raised: what this follows is committed already.
    """
    try:
        if ended := batch_completion.collect_outcomes(batches):
            _finish_collected(notify_functions.record_apart(ended, _finish_collected))
    except Exception:
        logger.exception("Could not end batches, which a worker tries again.")


def _finish_collected(ended: Sequence[Outcome]) -> None:
    """End batches. A worker tries those again whose end could not be recorded."""
    for _ in range(BATCH_TRIES):
        if not ended:
            break
        finished = finish_jobs(ended)
        # A process that stores the progress of a batch holds its row for a moment.
        if ended := [outcome for outcome in ended if claim_of(outcome.job) not in finished]:
            time.sleep(BATCH_RETRY_SECONDS)


def finish_remaining_batches() -> None:
    """End the batches whose last job was finished by a process that then failed. Workers call this once a second."""
    finish_batches(batch_completion.find_remaining_batches())


def _send_signals(ended: Sequence[Outcome]) -> None:
    """Send the signals of finished jobs, after the commit. On a worker they go through its signal queue."""
    if ended and _has_receivers(ended):
        size = sum(len(outcome.job.result or "") for outcome in ended)
        signal_queue.send_later(lambda: _send_each(ended), jobs=len(ended), size=size)


def _has_receivers(ended: Sequence[Outcome]) -> bool:
    if job_finished.receivers or notification_recorded.receivers:
        return True
    return any(should_send(task_finished, level) for level in {_level(outcome) for outcome in ended})


def _level(outcome: Outcome) -> int:
    return logging.INFO if outcome.job.state == Job.State.SUCCEEDED else logging.ERROR


def _send_each(ended: Sequence[Outcome]) -> None:
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
    except BaseException as raised:
        raised.__traceback__ = trace  # without this frame
        function()
