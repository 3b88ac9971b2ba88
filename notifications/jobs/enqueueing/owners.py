"""The owner of a job is the user who may see it and is notified of its end.

The first of these that is set: ``.using(owner=…)``, the user of the request given to ``accepted``, ``with
requester(user)``, the owner of the job that enqueues it. Otherwise the job has no owner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from django.core.exceptions import SynchronousOnlyOperation

_request_user: ContextVar[Any] = ContextVar("notifications_request_user", default=None)
_requester: ContextVar[Any] = ContextVar("notifications_requester", default=None)
#: The key of the owner of the job that runs in this context.
_job_owner: ContextVar[Any] = ContextVar("notifications_job_owner", default=None)


class RunningAttempt:
    """The attempt that runs in a context: the id of its job, and how often it has sent each outbound request."""

    __slots__ = ("job_id", "request_counts")

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        self.request_counts: Counter[str] = Counter()


_running_attempt: ContextVar[RunningAttempt | None] = ContextVar(
    "notifications_running_attempt", default=None
)


@contextmanager
def requester(user: Any) -> Iterator[None]:
    """Make ``user`` (or a primary key) the owner of the jobs that are enqueued inside the ``with`` block."""
    token = _requester.set(user)
    try:
        yield
    finally:
        _requester.reset(token)


@contextmanager
def owner_from_request(user: Any) -> Iterator[None]:
    """Make the user of a request the owner of the jobs that are enqueued inside the ``with`` block."""
    token = _request_user.set(user)
    try:
        yield
    finally:
        _request_user.reset(token)


def read_batch_owners(jobs: Iterable[Any]) -> dict[UUID, Any]:
    """Map the id of each job without a user to the owner of the nearest enclosing batch that has one, else None."""
    from notifications.db.transactions import database
    from notifications.models import Job

    unowned = [job for job in jobs if job.batch is not None and job.user_id is None]
    owners: dict[Any, Any] = {}
    wanted = {job.batch for job in unowned}
    while wanted:
        rows = Job.objects.using(database()).filter(pk__in=wanted).values_list("id", "user_id", "batch")
        owners |= {id: (user, outer) for id, user, outer in rows}
        wanted = {outer for user, outer in owners.values() if user is None and outer} - owners.keys()
    found: dict[UUID, Any] = {}
    for job in unowned:
        user, outer = owners.get(job.batch, (None, None))
        while user is None and outer in owners:
            user, outer = owners[outer]
        found[job.id] = user
    return found


def enter_attempt(owner_id: Any, job_id: UUID | None = None) -> None:
    """Make ``owner_id`` the owner of the jobs that this context enqueues; users set by the caller no longer count."""
    _request_user.set(None)
    _requester.set(None)
    _job_owner.set(owner_id)
    _running_attempt.set(RunningAttempt(job_id) if job_id else None)


def running_attempt() -> RunningAttempt | None:
    """Return the attempt that runs in this context, or that started this asyncio task, or None."""
    return _running_attempt.get()


def owner_key(owner: Any = None) -> Any:
    """Return the key of the owner of a job that is enqueued now, or None. ``owner`` is that of ``.using()``.

    Raises TypeError or ValueError.
    """
    from notifications.streams.inbox import user_keys_of

    for user in (owner, _request_user.get(), _requester.get(), _job_owner.get()):
        if user is not None and not getattr(user, "is_anonymous", False):
            keys = user_keys_of(user)
            if len(keys) != 1:
                raise ValueError(f"The owner of a job is one user, not {len(keys)}: {user!r}.")
            return keys[0]
    return None


def caller_key() -> Any:
    """Return the primary key of the user for whom this context runs, or None. For grouping only: it is not checked."""
    for user in (_request_user.get(), _requester.get()):
        if user is not None:
            try:
                return getattr(user, "pk", user)
            except SynchronousOnlyOperation:  # request.user is lazy and not yet loaded, on the event loop.
                return None
    return _job_owner.get()


def save_attempt() -> Callable[[], None]:
    """Return a function that undoes a later ``enter_attempt``, where the task runs in the context of its caller."""
    saved = [
        (variable, variable.get()) for variable in (_request_user, _requester, _job_owner, _running_attempt)
    ]

    def restore() -> None:
        for variable, value in saved:
            variable.set(value)  # type: ignore[attr-defined]

    return restore
