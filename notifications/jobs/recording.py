"""What becomes of a job is recorded in one transaction, and told to those who listen after it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db import Error

from notifications.compat import task_backends, task_finished
from notifications.jobs import results, states
from notifications.jobs.outcomes import Outcome
from notifications.models import Job, Notification
from notifications.signals import job_finished, notification_recorded

logger = logging.getLogger("notifications.jobs")

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
    for outcome in void:
        logger.warning("The outcome of job %s is void: another worker took it over.", outcome.job.id)
    return {claim_of(outcome.job) for outcome in (*stored, *void)}


def send_signals(outcome: Outcome) -> None:
    """Send the signals of a job that is done, after the commit."""
    job = outcome.job
    try:
        backend = type(task_backends[job.backend])
        attempts: list[Any] | None = None if job.attempt > 1 or outcome.attempt else []
        task_finished.send_robust(backend, task_result=results.of(job, attempts=attempts))
    except (ImportError, ImproperlyConfigured):
        pass  # a task or a backend that is not there any more has no result to send
    except Error as exc:  # the outcome is stored all the same
        logger.warning("task_finished is not sent for job %s: %s", job.id, exc)
    job_finished.send_robust(Job, job=job)
    if outcome.notification:
        notification_recorded.send_robust(Notification, notification=outcome.notification)
