"""The states of a job and the changes between them, which all other code, the browser client and the docs read here.

``tests/test_states.py`` lists what has to follow when a state is added. No model is imported: models import this.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from typing import Any, Literal, NamedTuple

from django.db.models import TextChoices
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _

from notifications import times
from notifications.compat import TaskResultStatus

#: Members of ``JobState``, whose types mypy does not know.
States = tuple[Any, ...]


class JobState(TextChoices):
    QUEUED = "queued", _("Queued")
    RUNNING = "running", _("Running")
    WAITING = "waiting", _("Waiting")
    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Cancelled")


#: The same for type checkers.
JobStateName = Literal["queued", "running", "waiting", "succeeded", "failed", "cancelled"]


class JobExecutor(TextChoices):
    """Who runs a job, and the kind of slot that a worker needs for it: see ``jobs/claiming/executors.py``."""

    ASYNC = "async", _("Async")
    SYNC = "sync", _("Sync")
    QUARANTINED = "quarantined", _("Quarantined")
    SENDER = "sender", _("Sender")
    EMAIL = "email", _("E-mail")


#: States that a job leaves without being changed by hand.
ACTIVE: States = (JobState.QUEUED, JobState.RUNNING, JobState.WAITING)
DONE: States = tuple(JobState(value) for value in JobState.values if value not in ACTIVE)
#: Workers claim jobs in these states, when they are due.
CLAIMABLE: States = (JobState.QUEUED,)
#: Jobs in these states have no worker, so that they are cancelled at once.
CANCELLED_AT_ONCE: States = (JobState.QUEUED, JobState.WAITING)
#: Jobs in these states can be retried by hand.
RETRYABLE: States = (JobState.FAILED, JobState.CANCELLED)
#: States whose jobs have an index of their own in the order of the lists.
LISTED_BY_INDEX: States = (JobState.FAILED, JobState.CANCELLED)
#: Lists show the last error of jobs in these states. Queued ones wait for a retry.
LISTED_WITH_ERROR: States = (JobState.FAILED, JobState.QUEUED)
#: In its first attempt, a job in these states has no attempt that failed.
UNFAILED_AT_FIRST: States = (JobState.RUNNING, JobState.SUCCEEDED)
#: Rows of a timeline say without a word that a job is in these states: a bar that goes on, a symbol, a wait.
SEEN_IN_TIMELINE: States = (JobState.RUNNING, JobState.SUCCEEDED, JobState.WAITING)
#: The status of a job in Django's Tasks API.
STATUS: dict[Any, Any] = {
    JobState.QUEUED: TaskResultStatus.READY,
    JobState.RUNNING: TaskResultStatus.RUNNING,
    JobState.WAITING: TaskResultStatus.RUNNING,
    JobState.SUCCEEDED: TaskResultStatus.SUCCESSFUL,
    JobState.FAILED: TaskResultStatus.FAILED,
    JobState.CANCELLED: TaskResultStatus.FAILED,
}
#: The level of the notification of a job that has ended.
LEVELS: dict[Any, str] = {
    JobState.SUCCEEDED: "success",
    JobState.FAILED: "error",
    JobState.CANCELLED: "warning",
}
#: The state of a job that waits for another attempt.
RETRY_AT = _("Queued, retry at {time}")
#: That of a running job whose cancellation is requested.
CANCELLING = _("Cancelling…")


class Change(NamedTuple):
    """A change of jobs: the states before (none: a new job) and after it, and its module in ``jobs/transitions/``."""

    what: str
    before: States
    after: States
    module: str


#: All changes of the state of a job. The first column is that of the table in ``docs/explanation/architecture.md``.
CHANGES = (
    Change("enqueue", (), (JobState.QUEUED,), "enqueueing"),
    Change("enqueue a batch, which no worker claims", (), (JobState.RUNNING,), "batch_completion"),
    Change("claim; raises fence and attempt", CLAIMABLE, (JobState.RUNNING,), "claims"),
    Change(
        "finish, with the notification and its number",
        (JobState.RUNNING,),
        (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED),
        "recording",
    ),
    Change(
        "retry after a failed attempt, release at shutdown",
        (JobState.RUNNING,),
        (JobState.QUEUED,),
        "queueing",
    ),
    Change(
        "reap: the lease or the deadline is over, or the worker stops and the job may begin only once",
        (JobState.RUNNING,),
        (JobState.QUEUED, JobState.FAILED, JobState.CANCELLED),
        "reaping",
    ),
    Change("expire: it has not begun by `expires_at`", (JobState.QUEUED,), (JobState.FAILED,), "expiring"),
    Change(
        "cancel a queued or waiting job; a running one only gets `cancel_requested_at`",
        CANCELLED_AT_ONCE,
        (JobState.CANCELLED,),
        "manual",
    ),
    Change(
        "suspend, with what the job waits for; to `queued` if that has ended already",
        (JobState.RUNNING,),
        (JobState.WAITING, JobState.QUEUED),
        "waiting",
    ),
    Change(
        "what the job waits for has ended; the next attempt is not counted",
        (JobState.WAITING,),
        (JobState.QUEUED,),
        "waiting",
    ),
    Change("retry by hand; raises the fence", RETRYABLE, (JobState.QUEUED,), "manual"),
    Change("retry a batch by hand; raises the fence", RETRYABLE, (JobState.RUNNING,), "manual"),
)


@cache
def sql_list(states: States) -> str:
    """Return states as the list of an SQL condition: ``'queued', 'running'``."""
    return ", ".join(f"'{state}'" for state in states)


def is_cancelling(job: Any) -> bool:
    """Return whether a ``Job`` or ``JobInfo`` goes on although its cancellation is requested."""
    return job.state == JobState.RUNNING and job.cancel_requested_at is not None


def describe_state(job: Any) -> str:
    """Return the state of a ``Job`` or ``JobInfo`` in words: "Running", "Cancelling…", or "Queued, retry at 14:05".

    The time is in the current time zone, with its date if it is a day or more away.
    """
    label = str(CANCELLING if is_cancelling(job) else JobState(job.state).label)
    if job.state not in CLAIMABLE or not job.attempt or job.run_after is None:
        return label
    start = times.as_utc(job.run_after)
    return label if start <= times.now() else str(RETRY_AT).format(time=format_start(start))


def format_start(moment: datetime) -> str:
    """Return a time to come in the current time zone, with its date if it is a day or more away."""
    is_soon = moment - times.now() < timedelta(days=1)
    return date_format(timezone.localtime(moment), "H:i" if is_soon else "j M Y, H:i")
