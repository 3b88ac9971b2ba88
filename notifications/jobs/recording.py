"""What becomes of a job is recorded in one transaction, and told to those who listen after it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db import Error

from notifications.compat import is_heard, task_backends, task_finished
from notifications.jobs import results, settling, states
from notifications.jobs.outcomes import Outcome
from notifications.models import Job, Notification
from notifications.signals import job_finished, notification_recorded

logger = logging.getLogger("notifications.jobs")

#: How often somebody tries to end a batch, and seconds in between. What is left then a worker does when it keeps house.
TRIES, AGAIN = 5, 0.005

#: A job's id and the fence of one claim: the same job may come here twice, taken away for its deadline, say.
Claim = tuple[UUID, int]


def claim_of(job: Job) -> Claim:
    return job.id, job.fence


def record(group: Sequence[Outcome]) -> set[Claim]:
    """Record a group and tell those who listen. Returns the claims that need no more work here."""
    stored, void = states.finish(group)
    for outcome in stored:
        if outcome.again_in is None:
            send_signals(outcome)
    settle(o.job.batch for o in stored if o.job.batch and o.again_in is None)
    for outcome in void:
        if outcome.job.worker is None:
            continue  # a batch that somebody else has ended
        logger.warning("The outcome of job %s is void: another worker took it over.", outcome.job.id)
    return {claim_of(outcome.job) for outcome in (*stored, *void)}


def settle(batches: Iterable[UUID]) -> None:
    """End these batches, those of which no job is active any more; report how far the others are."""
    try:
        ended = settling.ended(batches)
        for _ in range(TRIES):
            if not ended:
                break
            settled = record(ended)
            # Whoever reports how far one is holds its row for a moment.
            if ended := [outcome for outcome in ended if claim_of(outcome.job) not in settled]:
                time.sleep(AGAIN)
    except Exception:  # what it follows is stored, and must not look as if it were not
        logger.exception("A batch is not settled; it is looked at again by a worker.")


def settle_left() -> None:
    """Settle the batches whose last job was finished by a process that could not. Workers call this once a second."""
    settle(settling.left())


def send_signals(outcome: Outcome) -> None:
    """Send the signals of a job that is done, after the commit."""
    job = outcome.job
    succeeded = job.state == Job.State.SUCCEEDED
    if is_heard(task_finished, logging.INFO if succeeded else logging.ERROR):
        _send_task_finished(outcome)
    job_finished.send_robust(Job, job=job)
    if outcome.notification:
        notification_recorded.send_robust(Notification, notification=outcome.notification)


def _send_task_finished(outcome: Outcome) -> None:
    job = outcome.job
    try:
        backend = type(task_backends[job.backend])
        attempts: list[Any] | None = None if job.attempt > 1 or outcome.attempt else []
        task_finished.send_robust(backend, task_result=results.of(job, attempts=attempts))
    except (ImportError, ImproperlyConfigured):
        pass  # a task or a backend that is not there any more has no result to send
    except Error as exc:  # the outcome is stored all the same
        logger.warning("task_finished is not sent for job %s: %s", job.id, exc)
