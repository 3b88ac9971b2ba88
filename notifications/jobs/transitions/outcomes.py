"""What came out of an attempt, encoded before the transaction that records it."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from traceback import format_exception
from typing import Any, TypeVar

from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications import paths, validators
from notifications.compat import normalize_json
from notifications.exceptions import JobCancelled, JobFailed
from notifications.jobs.policies import DEFAULT_POLICY, FinishedJob, Policy
from notifications.models import Attempt, Job, Notification
from notifications.streams.inbox import build_notification

logger = logging.getLogger("notifications.jobs")

T = TypeVar("T")

#: Characters of a traceback that are kept: its end.
MAX_TRACEBACK_CHARS = 20_000
LEVELS = {Job.State.SUCCEEDED: "success", Job.State.FAILED: "error", Job.State.CANCELLED: "warning"}
#: Seconds before another attempt, by itself and where the exception asks for more, at most.
BACKOFF_SECONDS, MAX_RETRY_AFTER_SECONDS = 3600.0, 24 * 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The end of a job: its last state, what is stored, and what its owner is told.

    With ``again_in`` (seconds) only an attempt has ended: the job is queued again, and nobody is told.
    """

    job: Job
    state: Any  # Job.State
    result: str | None = None
    error: str | None = None
    attempt: Any = ""  # Attempt.Outcome, where it did not succeed
    exception_class_path: str = ""
    traceback: str = ""
    notification: Notification | None = None
    again_in: float | None = None
    exception: BaseException | None = None  # of a job that has failed


def succeeded(job: Job, policy: Policy, value: Any) -> Outcome:
    """Return the outcome of a task that returned ``value``; a failure where that cannot be stored."""
    try:
        result = _encoded(value)
    except BaseException as exc:  # also a class of the author's may say what it holds
        return refused(job, policy, exc)
    with _language(job):
        notification = _notification(job, policy, Job.State.SUCCEEDED, value, None)
    return Outcome(job=job, state=Job.State.SUCCEEDED, result=result, notification=notification)


def failed(job: Job, policy: Policy, exc: BaseException) -> Outcome:
    """Return the outcome of a task that raised: another attempt where its policy says so, else a failure.

    Its owner reads the message only of an error meant for them.
    """
    if _is_retried(job, policy, type(exc)):
        return _retry(job, exc, Attempt.Outcome.FAILED)
    with _language(job):
        detail = _of_author("tell_owner", job, lambda: str(exc) if getattr(exc, "tell_owner", False) else "")
        detail = detail or _("Something went wrong while this was being done.")
    return _failed(job, policy, "task-failed", detail, exc)


def timed_out(job: Job, policy: Policy) -> Outcome:
    """Return the outcome of a task that took longer than its policy allows."""
    exc = TimeoutError(f"The task took longer than {policy.timeout:g} s.")
    if _is_retried(job, policy, TimeoutError):
        return _retry(job, exc, Attempt.Outcome.TIMED_OUT)
    with _language(job):
        detail = _("It took longer than the %(seconds)g seconds it may take.") % {"seconds": policy.timeout}
    return _failed(job, policy, "timed-out", detail, exc, attempt=Attempt.Outcome.TIMED_OUT)


def cancelled(job: Job, policy: Policy, exc: BaseException | None = None) -> Outcome:
    """Return the outcome of a job that was cancelled. Its owner is told only if somebody else did it."""
    begun = job.attempt and job.state != Job.State.QUEUED
    with _language(job):
        error = {"type": "cancelled", "title": _("Cancelled"), "detail": _("It was cancelled.")}
        told = job.cancelled_by_other
        notification = _notification(job, policy, Job.State.CANCELLED, None, error) if told else None
    return Outcome(
        job=job,
        state=Job.State.CANCELLED,
        error=json.dumps(error, ensure_ascii=False),
        attempt=Attempt.Outcome.CANCELLED if begun else "",
        exception_class_path=_path(JobCancelled),
        traceback=_traceback(exc) if exc is not None else "",
        notification=notification,
    )


def lost(job: Job, policy: Policy) -> Outcome:
    """Return the outcome of a job whose workers went away during each of its attempts."""
    with _language(job):
        detail = _("The work was interrupted %(times)s times and is not tried again.") % {
            "times": job.attempt
        }
    return _failed(job, policy, "worker-lost", detail, attempt=Attempt.Outcome.LOST)


def unknown(job: Job) -> Outcome:
    """Return the outcome of a job whose task no worker has known for a day."""
    with _language(job):
        detail = _("No worker knows how to do this.")
    return _failed(job, DEFAULT_POLICY, "unknown-task", detail)


def refused(job: Job, policy: Policy, exc: BaseException | None = None) -> Outcome:
    """Return the outcome of a job whose result is no JSON, too large, or not taken by the database."""
    with _language(job):
        detail = _("The work was done, but its result cannot be stored.")
    return _failed(job, policy, "result-not-storable", detail, exc)


def of_batch(job: Job, policy: Policy, *, succeeded: int, failed: int, cancelled: int) -> Outcome:
    """Return the outcome of a batch of which no job is active any more, with so many jobs in each state."""
    total = succeeded + failed + cancelled
    with _language(job):
        if succeeded == total:
            done = ngettext("%(count)d job succeeded.", "All %(count)d jobs succeeded.", total) % {
                "count": total
            }
            value = {"succeeded": succeeded, "failed": failed, "cancelled": cancelled}
            notification = _notification(job, policy, Job.State.SUCCEEDED, value, None, done=done)
            return Outcome(
                job=job, state=Job.State.SUCCEEDED, result=json.dumps(value), notification=notification
            )
        numbers = {"failed": failed, "cancelled": cancelled, "total": total}
        if not cancelled:
            detail = _("%(failed)d of %(total)d failed.")
        elif not failed:
            detail = ngettext(
                "%(cancelled)d of %(total)d was cancelled.",
                "%(cancelled)d of %(total)d were cancelled.",
                cancelled,
            )
        else:
            detail = ngettext(
                "%(failed)d of %(total)d failed, %(cancelled)d was cancelled.",
                "%(failed)d of %(total)d failed, %(cancelled)d were cancelled.",
                cancelled,
            )
        detail %= numbers
    return _failed(job, policy, "batch-failed", detail, JobFailed({"detail": detail}))


def fallback(job: Job) -> Outcome:
    """Return a failure of which nobody is told, for a job whose words cannot be made."""
    error = {
        "type": "task-failed",
        "title": "Failed",
        "detail": "Something went wrong while this was being done.",
    }
    return Outcome(job=job, state=Job.State.FAILED, error=json.dumps(error), attempt=Attempt.Outcome.FAILED)


def _encoded(value: Any) -> str:
    try:
        return validators.json_text("The result", value, validators.RESULT)
    except TypeError:  # Django's Tasks also take bytes that are text, and any mapping and sequence
        return validators.json_text("The result", normalize_json(value), validators.RESULT)


def _failed(
    job: Job,
    policy: Policy,
    kind: str,
    detail: str,
    exc: BaseException | None = None,
    attempt: Any = Attempt.Outcome.FAILED,
) -> Outcome:
    with _language(job):
        error = {
            "type": kind,
            "title": _("Failed"),
            "detail": validators.shortened(_storable(detail), validators.DETAIL),
        }
        notification = _notification(job, policy, Job.State.FAILED, None, error)
    return Outcome(
        job=job,
        state=Job.State.FAILED,
        error=json.dumps(error, ensure_ascii=False),
        attempt=attempt,
        exception_class_path=_path(type(exc)) if exc is not None else "",
        traceback=_traceback(exc) if exc is not None else "",
        notification=notification,
        exception=exc,
    )


def _is_retried(job: Job, policy: Policy, raised: type[BaseException]) -> bool:
    if job.attempt >= job.max_attempts or not policy.retry_on:
        return False
    return bool(_of_author("retry_on", job, lambda: issubclass(raised, policy.retry_on)))


def _retry(job: Job, exc: BaseException, attempt: Any) -> Outcome:
    # Full jitter: jobs that failed together do not come back together
    # (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    pause = random.uniform(0, min(BACKOFF_SECONDS, 2.0 ** min(job.attempt, 30)))
    return Outcome(
        job=job,
        state=Job.State.QUEUED,
        attempt=attempt,
        exception_class_path=_path(type(exc)),
        traceback=_traceback(exc),
        again_in=max(pause, _of_author("retry_after", job, lambda: _retry_after_of(exc)) or 0.0),
    )


def _retry_after_of(exc: BaseException) -> float:
    """The seconds that an exception asks for by its ``retry_after``, as one does that carries an upstream's header."""
    seconds = getattr(exc, "retry_after", None)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return 0.0
    if seconds != seconds:  # noqa: PLR0124 (NaN; math.isnan() fails for a huge integer)
        return 0.0
    return min(max(float(min(seconds, MAX_RETRY_AFTER_SECONDS)), 0.0), MAX_RETRY_AFTER_SECONDS)


def _notification(
    job: Job, policy: Policy, state: Any, result: Any, error: dict[str, str] | None, *, done: str = ""
) -> Notification | None:
    """Compose the notification for the owner: the default one, with what the policy's function says about it."""
    if job.user_id is None or job.batch is not None or policy.notify is False:
        return None
    fields: dict[str, Any] = {
        "title": job.title,
        "body": error["detail"] if error else done or _("Done."),
        "level": LEVELS[state],
        "category": "job",
        "url": job.url or paths.job_page(job.id),
    }
    if callable(policy.notify):
        end = FinishedJob(id=job.id, title=job.title, url=job.url, state=state, result=result, error=error)
        try:
            told = policy.notify(end)
            if told is None:
                return None
            return build_notification(job.user_id, **_with(fields, told), key=f"job:{job.id}", job=job.id)
        except BaseException:  # the author's; the owner is told all the same, in the default words
            logger.exception(
                "The notify function of %s failed; the default notification is recorded.", job.task_path
            )
    return build_notification(job.user_id, **fields, key=f"job:{job.id}", job=job.id)


def _of_author(what: str, job: Job, read: Callable[[], T]) -> T | None:
    """Return what a class or a policy of the task's author says; None where that raises."""
    try:
        return read()
    except BaseException:
        logger.exception("Host code failed: %s of what %s raised, job %s", what, job.task_path, job.id)
        return None


def _with(fields: dict[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    if unknown_names := set(told) - {"title", "body", "level", "category", "url", "data"}:
        raise TypeError(
            f"A notify function may return title, body, level, category, url, data; not {unknown_names}."
        )
    return {**fields, **told}


def _language(job: Job) -> Any:
    wanted = job.language or None
    return nullcontext() if translation.get_language() == wanted else translation.override(wanted)


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"[:500]


def _traceback(exc: BaseException) -> str:
    return _storable("".join(format_exception(exc))[-MAX_TRACEBACK_CHARS:])


def _storable(text: str) -> str:
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()
