"""Outcomes: how attempts ended, encoded before the transaction that records them.

A value that the database refuses must not fail the other outcomes of the same transaction.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy

from notifications import validators
from notifications.compat import normalize_json
from notifications.db import project_code
from notifications.db.unavailable import classify
from notifications.exceptions import JobCancelled
from notifications.jobs.declaring.policies import DEFAULT_POLICY, FinishedJob, Policy
from notifications.jobs.outcome_texts import cancelled_error, describe_failure, describe_success
from notifications.jobs.tracebacks import class_path, describe_exception
from notifications.models import Attempt, Job, Notification, Wait
from notifications.states import CANCELLED_AT_ONCE, LEVELS
from notifications.streams.building import build_end_notification

logger = logging.getLogger("notifications.jobs")
#: Maximum seconds before another attempt: by exponential backoff, and by ``retry_after`` of the exception.
MAX_BACKOFF_SECONDS, MAX_RETRY_AFTER_SECONDS = 3600.0, 24 * 3600.0

#: How soon a job succeeds after an act of its owner if it follows from that, and the levels of what is expected then.
OWN_END_WITHIN, QUIET_LEVELS = timedelta(minutes=1), ("info", "success")

#: What the owner reads of a failure, by its type: with the id of the job, its timeout in seconds, and its attempts.
DETAILS: dict[str, Any] = {
    "task-failed": gettext_lazy(
        "The job stopped because of an error. Try again, or give support this ID: %(id)s"
    ),
    "timed-out": gettext_lazy("It took longer than the %(seconds)g seconds it may take."),
    "worker-lost": ngettext_lazy(
        "The work was interrupted and is not tried again.",
        "The work was interrupted %(times)s times and is not tried again.",
        "times",
    ),
    "unknown-task": gettext_lazy("No worker knows how to do this."),
    "result-not-storable": gettext_lazy("The work was done, but its result cannot be stored."),
    "expired": gettext_lazy("It was not started in time."),
}
#: The outcomes of attempts that fail so, besides ``FAILED``.
ATTEMPTS: dict[str, Any] = {
    "timed-out": Attempt.Outcome.TIMED_OUT,
    "worker-lost": Attempt.Outcome.LOST,
}


class RetryRequested(Exception):
    """What a task raises that has requested another attempt itself, which ``max_attempts`` does not count.

    Its cause is the exception of the attempt.
    """

    def __init__(self, delay: float) -> None:
        super().__init__(f"The task has requested another attempt in {delay:g} s.")
        #: Seconds until that attempt.
        self.delay = max(delay, 0.0)


def find_slot_given_back(exc: BaseException) -> BaseException | None:
    """Return the exception, also in a group, by which an attempt has given back its slot: ``gives_back_slot`` is true.

    ``max_attempts`` does not count that attempt.
    """
    if isinstance(exc, BaseExceptionGroup):
        return next(filter(None, map(find_slot_given_back, exc.exceptions)), None)
    return exc if getattr(exc, "gives_back_slot", False) is True else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The end of a job, or of an attempt that another one follows, if need be after its ``waits``.

    ``attempt``
        The ``Attempt.Outcome`` to store, if the job was running; "" if the attempt succeeded.
    ``retry_delay``
        Seconds until the next attempt; None if the job is done. Only a done job has a notification.
    ``is_requested``
        Whether the task has requested the next attempt itself.
    ``location``
        The innermost frame of the exception in the project's code.
    ``exception``
        What the task of a failed job raised.
    ``notification``
        The default one while ``notify`` is not called yet.
    ``notify``
        Calls the project's ``notify`` function: see ``notify_functions``. None once it was called.
    """

    job: Job
    state: Any  # Job.State
    result: str | None = None
    error: str | None = None
    attempt: Any = ""  # Attempt.Outcome
    exception_class_path: str = ""
    traceback: str = ""
    location: str = ""
    notification: Notification | None = None
    retry_delay: float | None = None
    is_requested: bool = False
    waits: Sequence[Wait] = ()
    exception: BaseException | None = None
    notify: Callable[[], Mapping[str, Any] | None] | None = None

    @property
    def is_end(self) -> bool:
        """Whether the job is done: it has neither another attempt, nor is it suspended."""
        return self.retry_delay is None and not self.waits


def succeeded(job: Job, policy: Policy, value: Any, result: str, *, body: str = "") -> Outcome:
    """Return the outcome of a task that returned ``value``, which ``encode()`` has made the JSON ``result``.

    ``body`` is that of its notification, "" for the default.
    """
    fields = announcement(job, policy, Job.State.SUCCEEDED, value, None, body=body)
    return Outcome(job=job, state=Job.State.SUCCEEDED, result=result, **fields)


def failed(job: Job, policy: Policy, exc: BaseException) -> Outcome:
    """Return the outcome of a task that raised: another attempt if its policy allows one, else a failure.

    The notification has the exception's message only if the exception has a true ``tell_owner``, or that if it is text.
    """
    if isinstance(exc, RetryRequested):
        return retried(job, exc.__cause__ or exc, exc.delay, is_requested=True)
    if (given_back := find_slot_given_back(exc)) and is_retried(job, policy, given_back):
        return retried(job, given_back, _find_delay(job, policy, given_back), is_requested=True)
    if is_retried(job, policy, exc):
        return retried(job, exc, _find_delay(job, policy, exc))
    with _language(job):  # the message may be a lazy translation
        text = _call_host("tell_owner", job, lambda: _text_for_owner(exc))
    return failure(job, policy, "task-failed", exc, text or None)


def _text_for_owner(exc: BaseException) -> str:
    told = getattr(exc, "tell_owner", False)
    return told if isinstance(told, str) else str(exc) if told else ""


def timed_out(job: Job, policy: Policy) -> Outcome:
    """Return the outcome of a task that took longer than its policy allows."""
    exc = TimeoutError(f"The task took longer than {policy.timeout or 0:g} s.")
    if is_retried(job, policy, exc):
        return retried(job, exc, _find_delay(job, policy, exc), Attempt.Outcome.TIMED_OUT)
    return failure(job, policy, "timed-out", exc)


def cancelled(job: Job, policy: Policy, exc: BaseException | None = None) -> Outcome:
    """Return the outcome of a cancelled job. The owner is notified only of a cancellation by another user."""
    was_running = job.attempt and job.state not in CANCELLED_AT_ONCE
    error, text = cancelled_error(job.language)
    is_announced = job.cancelled_by_other
    return Outcome(
        job=job,
        state=Job.State.CANCELLED,
        error=text,
        attempt=Attempt.Outcome.CANCELLED if was_running else "",
        **{**describe_exception(exc), "exception_class_path": class_path(JobCancelled)},
        **(announcement(job, policy, Job.State.CANCELLED, None, error) if is_announced else {}),
    )


def failure(
    job: Job,
    policy: Policy = DEFAULT_POLICY,
    kind: str = "task-failed",
    exc: BaseException | None = None,
    detail: Any = None,
) -> Outcome:
    """Return a failure. ``detail`` is what the owner reads, by default that of its ``kind`` in ``DETAILS``.

    A lazy translation is made in the language of the job.
    """
    with _language(job):
        if detail is None:
            detail = DETAILS[kind] % {"id": job.id, "seconds": policy.timeout, "times": job.attempt}
        error = {
            "type": kind,
            "title": _("Expired") if kind == "expired" else _("Failed"),
            "detail": validators.shortened(validators.printable(str(detail)), validators.MAX_DETAIL_LENGTH),
        }
    return Outcome(
        job=job,
        state=Job.State.FAILED,
        error=json.dumps(error, ensure_ascii=False),
        attempt=ATTEMPTS.get(kind, Attempt.Outcome.FAILED),
        exception=exc,
        **describe_exception(exc),
        **announcement(job, policy, Job.State.FAILED, None, error),
    )


def interrupted(job: Job) -> Outcome:
    """Return the outcome of an attempt whose worker was lost, and which another one follows."""
    return Outcome(job=job, state=Job.State.QUEUED, attempt=Attempt.Outcome.LOST, retry_delay=0.0)


def retried(
    job: Job,
    exc: BaseException,
    delay: float,
    attempt: Any = Attempt.Outcome.FAILED,
    *,
    is_requested: bool = False,
) -> Outcome:
    """Return the outcome of an attempt that another one follows after ``delay`` seconds."""
    return Outcome(
        job=job,
        state=Job.State.QUEUED,
        attempt=attempt,
        retry_delay=delay,
        is_requested=is_requested,
        **describe_exception(exc),
    )


def fallback(job: Job) -> Outcome:
    """Return a failure without a notification, for a job whose outcome could not be made."""
    error = {"type": "task-failed", "title": "Failed", "detail": str(DETAILS["task-failed"]) % {"id": job.id}}
    return Outcome(job=job, state=Job.State.FAILED, error=json.dumps(error), attempt=Attempt.Outcome.FAILED)


def encode(value: Any) -> str:
    """Return a result as JSON. Raises TypeError or ValueError if it cannot be stored, or what its class raises."""
    if value is None:
        return "null"
    try:
        return validators.json_text("The result", value, validators.MAX_RESULT_BYTES)
    except TypeError:  # Django's Tasks also allow UTF-8 bytes, and any mapping and sequence
        return validators.json_text("The result", normalize_json(value), validators.MAX_RESULT_BYTES)


def is_retried(job: Job, policy: Policy, exc: BaseException) -> bool:
    """Return whether another attempt follows one that raises this, by the policy of the task."""
    if job.attempt >= job.max_attempts or not policy.retry_on:
        return False
    # One of the database matches by its class, and by what its code says.
    kinds = {type(exc), type(classify(exc))} if isinstance(exc, Exception) else {type(exc)}
    is_retried = _call_host("retry_on", job, lambda: any(issubclass(kind, policy.retry_on) for kind in kinds))
    return bool(is_retried)


def _find_delay(job: Job, policy: Policy, exc: BaseException) -> float:
    """Return the seconds until the next attempt."""
    # Full jitter, so that jobs that failed together are not retried together
    # (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    backoff = random.uniform(0, min(MAX_BACKOFF_SECONDS, policy.backoff * 2.0 ** min(job.attempt - 1, 30)))
    return max(backoff, _call_host("retry_after", job, lambda: _retry_after_of(exc)) or 0.0)


def _retry_after_of(exc: BaseException) -> float:
    """Return the ``retry_after`` of an exception in seconds, 0 if it is not a number."""
    seconds = getattr(exc, "retry_after", None)
    # The last is NaN, for which math.isnan() is no test: it fails for a huge integer.
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds != seconds:  # noqa: PLR0124
        return 0.0
    return min(max(float(min(seconds, MAX_RETRY_AFTER_SECONDS)), 0.0), MAX_RETRY_AFTER_SECONDS)


def announcement(
    job: Job, policy: Policy, state: Any, result: Any, error: dict[str, str] | None, *, body: str = ""
) -> dict[str, Any]:
    """Return the ``notification`` and ``notify`` of an outcome: the default ones, nothing if the policy silences them.

    ``body`` is that of a success.
    """
    if job.user_id is None or job.batch is not None or policy.notify is False:
        return {}
    # A schedule notifies of failures itself, once and not each night, and of successes as a ``notify`` function says.
    is_silent = state == Job.State.FAILED or (state == Job.State.SUCCEEDED and not callable(policy.notify))
    if job.schedule and is_silent:
        return {}
    if body:
        body = validators.label("body", body, validators.MAX_BODY_LENGTH)
    text = describe_failure(job, error) if error else body or describe_success(result, job.language)
    notification = build_end_notification(job, text, LEVELS[state], end_key(job.id))
    if not callable(policy.notify):
        return {"notification": notification}
    end = FinishedJob(id=job.id, title=job.title, url=job.url, state=state, result=result, error=error)
    return {"notification": notification, "notify": partial(policy.notify, end)}


def find_own(ended: Sequence[Outcome], now: datetime) -> set[UUID]:
    """Return the ids of the notifications of successes that their readers have just caused themselves.

    One that warns, as a ``notify`` function can say, is not among them.
    """
    found = set()
    for outcome in ended:
        row, acted_at = outcome.notification, outcome.job.owner_acted_at
        if not row or not acted_at or outcome.state != Job.State.SUCCEEDED or row.level not in QUIET_LEVELS:
            continue
        if acted_at <= now <= acted_at + OWN_END_WITHIN:
            found.add(row.id)
    return found


def end_key(job: UUID) -> str:
    """Return the key of the notification of the end of a job."""
    return f"job:{job}"


def _call_host(name: str, job: Job, read: Callable[[], Any]) -> Any:
    """Return a value that a policy or an exception of the project computes, or None if that raises."""
    return project_code.call(f"{name} of what {job.task_path} raised, job {job.id}:", read)


def _language(job: Job) -> Any:
    language = job.language or None
    return nullcontext() if translation.get_language() == language else translation.override(language)
