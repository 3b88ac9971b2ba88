"""Outcomes for what Celery says about the end of a task."""

from __future__ import annotations

from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from celery import states
from celery.exceptions import TaskRevokedError
from django.utils.translation import gettext_lazy as _

from notifications.contrib.celery.held_reports import observer
from notifications.jobs import Outcome, Policy
from notifications.models import Job


def storable(value: Any) -> tuple[Any, str]:
    """Return a result, and as JSON; None if this app cannot store it: a pickled object, or megabytes."""
    try:
        return value, observer.encode(value)
    except BaseException:  # the value may be of a class of the project, which may raise anything
        return None, observer.encode(None)


def succeeded(job: Job, policy: Policy, value: Any) -> Outcome:
    """Return a success, with its value if this app can store that."""
    value, result = storable(value)
    return observer.succeeded(job, policy, value, result)


def failed(job: Job, policy: Policy, exc: Any) -> Outcome:
    """Return a failure by what the task raised, or by what Celery reports in its place."""
    if not isinstance(exc, BaseException):
        exc = RuntimeError(str(exc))
    if isinstance(exc, TimeLimitExceeded | SoftTimeLimitExceeded):
        return observer.failed_as(job, policy, "timed-out", exc, _("It took longer than it may take."))
    if isinstance(exc, WorkerLostError):
        detail = _("The worker process that ran the job ended unexpectedly.")
        return observer.failed_as(job, policy, "worker-lost", exc, detail)
    return observer.failed(job, policy, exc)


def revoked(job: Job, policy: Policy) -> Outcome:
    """Return the outcome of a task that was revoked or terminated."""
    # Without a request in this app, it was revoked in Celery, of which the owner is notified.
    job.cancelled_by_other = job.cancelled_by_other or job.cancel_requested_at is None
    return observer.cancelled(job, policy)


def expired(job: Job, policy: Policy) -> Outcome:
    """Return the outcome of a task that no worker started before it expired."""
    return observer.failed_as(job, policy, "expired")


def from_meta(job: Job, policy: Policy, meta: dict[str, Any]) -> Outcome | None:
    """Return the outcome that the result backend has stored, None if the task is not done."""
    state, result = meta["status"], meta.get("result")
    if state == states.SUCCESS:
        return succeeded(job, policy, result)
    if state == states.REVOKED:
        is_expired = isinstance(result, TaskRevokedError) and "expired" in str(result)
        return expired(job, policy) if is_expired else revoked(job, policy)
    return failed(job, policy, result) if state == states.FAILURE else None
