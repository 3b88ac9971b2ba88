"""The owner of a job: the user who may see it and is notified of its end.

The first of these that is set: ``.using(owner=…)``, the user of the request given to ``accepted``, ``with
requester(user)``, the owner of the job that enqueues it. Otherwise the job has no owner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from django.core.exceptions import SynchronousOnlyOperation

_request_user: ContextVar[Any] = ContextVar("notifications_request_user", default=None)
_requester: ContextVar[Any] = ContextVar("notifications_requester", default=None)
#: The key of the owner of the job that runs in this context.
_job_owner: ContextVar[Any] = ContextVar("notifications_job_owner", default=None)


class RunningJob:
    """The attempt that runs in a context: the id of its ``job``, and how often it has sent each outbound request."""

    __slots__ = ("job", "request_counts")

    def __init__(self, job: UUID) -> None:
        self.job = job
        self.request_counts: Counter[str] = Counter()


_running_job: ContextVar[RunningJob | None] = ContextVar("notifications_running_job", default=None)


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
    """Return, by the ids of jobs inside batches that have no user themselves, the key of their batch's owner."""
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


def set_running_job(key: Any, job: UUID | None = None) -> None:
    """Make a job's owner (key) the owner of what this context enqueues, instead of the users set by the caller."""
    _request_user.set(None)
    _requester.set(None)
    _job_owner.set(key)
    _running_job.set(RunningJob(job) if job else None)


def running_job() -> RunningJob | None:
    """Return the attempt that runs in this context, or that started this asyncio task, or None."""
    return _running_job.get()


def owner_key(owner: Any = None) -> Any:
    """Return the key of the owner of a job that is enqueued now, or None. ``owner`` is that of ``.using()``.

    Raises TypeError or ValueError.
    """
    from notifications.streams.inbox import user_keys_of

    for user in (owner, _request_user.get(), _requester.get(), _job_owner.get()):
        if user is not None and not getattr(user, "is_anonymous", False):
            return user_keys_of(user)[0]
    return None


def caller_key() -> Any:
    """Return the key of the user for whom this context runs, or None, without the checks of ``owner_key``."""
    for user in (_request_user.get(), _requester.get()):
        if user is not None:
            try:
                return getattr(user, "pk", user)
            except SynchronousOnlyOperation:  # request.user is lazy and not yet loaded, on the event loop.
                return None
    return _job_owner.get()
