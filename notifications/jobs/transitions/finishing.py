"""What becomes of a job is recorded in one transaction, and told to those who listen after it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db import Error

from notifications.compat import is_heard, task_backends, task_finished
from notifications.jobs import host_code, results
from notifications.jobs.transitions import batch_completion, signal_queue, states
from notifications.jobs.transitions.outcomes import Outcome
from notifications.models import Job, Notification
from notifications.signals import job_finished, notification_recorded

logger = logging.getLogger("notifications.jobs")

#: How often somebody tries to end a batch, and seconds in between. What is left then a worker does when it keeps house.
TRIES, RETRY_SECONDS = 5, 0.005

#: A job's id and the fence of one claim: the same job may come here twice, taken away for its deadline, say.
Claim = tuple[UUID, int]


def claim_of(job: Job) -> Claim:
    return job.id, job.fence


def record(group: Sequence[Outcome]) -> set[Claim]:
    """Record a group and tell those who listen. Returns the claims that need no more work here."""
    stored, void = states.finish(group)
    send_signals([outcome for outcome in stored if outcome.again_in is None])
    settle(o.job.batch for o in stored if o.job.batch and o.again_in is None)
    for outcome in void:
        if outcome.job.worker is None:
            continue  # a batch that somebody else has ended
        logger.warning("The outcome of job %s is void: another worker took it over.", outcome.job.id)
    return {claim_of(outcome.job) for outcome in (*stored, *void)}


def settle(batches: Iterable[UUID]) -> None:
    """End these batches, those of which no job is active any more; report how far the others are."""
    try:
        ended = batch_completion.ended(batches)
        for _ in range(TRIES):
            if not ended:
                break
            settled = record(ended)
            # Whoever reports how far one is holds its row for a moment.
            if ended := [outcome for outcome in ended if claim_of(outcome.job) not in settled]:
                time.sleep(RETRY_SECONDS)
    except Exception:  # what it follows is stored, and must not look as if it were not
        logger.exception("A batch is not settled; it is looked at again by a worker.")


def settle_left() -> None:
    """Settle the batches whose last job was finished by a process that could not. Workers call this once a second."""
    settle(batch_completion.left())


def send_signals(ended: Sequence[Outcome]) -> None:
    """Send the signals of jobs that are done, after the commit; a worker does it on the thread of its queue."""
    if ended and _is_anything_heard(ended):
        size = sum(len(outcome.job.result or "") for outcome in ended)
        signal_queue.later(lambda: _send_each(ended), jobs=len(ended), size=size)


def _is_anything_heard(ended: Sequence[Outcome]) -> bool:
    if job_finished.receivers or notification_recorded.receivers:
        return True
    return any(is_heard(task_finished, level) for level in {_level(outcome) for outcome in ended})


def _level(outcome: Outcome) -> int:
    return logging.INFO if outcome.job.state == Job.State.SUCCEEDED else logging.ERROR


def _send_each(ended: Sequence[Outcome]) -> None:
    for outcome in ended:
        job = outcome.job
        if is_heard(task_finished, _level(outcome)):
            _send_task_finished(outcome)
        host_code.send(job_finished, "job_finished", Job, job=job)
        if note := outcome.notification:
            host_code.send(notification_recorded, "notification_recorded", Notification, notification=note)


def _send_task_finished(outcome: Outcome) -> None:
    job = outcome.job
    try:
        backend = type(task_backends[job.backend])
        attempts: list[Any] | None = None if job.attempt > 1 or outcome.attempt else []
        result = results.of(job, attempts=attempts)
    except (ImportError, ImproperlyConfigured, ValueError):
        return  # a task or a backend that is not there any more, or damaged arguments, make no result to send
    except Error as exc:  # the outcome is stored all the same
        logger.warning("task_finished is not sent for job %s: %s", job.id, exc)
        return
    _while_handling(
        outcome.exception, lambda: host_code.send(task_finished, "task_finished", backend, task_result=result)
    )


def _while_handling(exc: BaseException | None, work: Callable[[], None]) -> None:
    """Call ``work`` while an exception is being handled.

    Django's own receiver and the clients of error trackers take it, with its traceback, from ``sys.exc_info()``.
    """
    if exc is None:
        return work()
    trace = exc.__traceback__
    try:
        raise exc
    except BaseException as raised:
        raised.__traceback__ = trace  # without this frame
        work()
