"""The public verbs of the app.

This module may be imported before the models are there, so that modules with tasks can be imported from anywhere.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse

from notifications.compat import TaskResult, task
from notifications.jobs.info import JobInfo
from notifications.jobs.policies import Done

if TYPE_CHECKING:
    from notifications.jobs.batches import Batch

__all__ = [
    "DATABASE_UNAVAILABLE",
    "JobInfo",
    "aaccepted",
    "abatch",
    "accepted",
    "aget_job",
    "aget_jobs",
    "ajobs_of",
    "ajoin",
    "anotify",
    "batch",
    "get_job",
    "get_jobs",
    "jobs_of",
    "join",
    "notify",
    "policy",
    "progress",
    "release_connections",
    "requester",
    "task",
    "track",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

#: What Django raises while the database is away or busy, which passes: ``@policy(retry_on=DATABASE_UNAVAILABLE)``.
DATABASE_UNAVAILABLE: tuple[type[Exception], ...] = (OperationalError, InterfaceError)


def policy(
    *,
    title: str = "",
    max_attempts: int = 3,
    timeout: float = 300.0,
    retry_on: type[Exception] | tuple[type[Exception], ...] = (),
    concurrency_key: str = "",
    concurrency: int = 1,
    notify: bool | Callable[[Done], Mapping[str, Any] | None] = True,
) -> Callable[[F], F]:
    """Decide how the jobs of a task are run and told. Stands below ``@task``.

    ``title``
        What the owner reads; may name arguments: ``"Check report {report_id}"``. Shortened to 200 characters. The
        function's name unless told.
    ``max_attempts``
        How often a job is begun at most, 1 or more: after what ``retry_on`` names, and when its worker was lost.
    ``timeout``
        Seconds that one attempt may take.
    ``retry_on``
        Classes of exceptions after which the job is tried again; after any other one it has failed. With
        ``TimeoutError`` also an attempt that took too long. The pause before attempt n + 1 is a random part of 2^n
        seconds, at most an hour, and at least the ``retry_after`` seconds of the exception, at most a day.
        ``DATABASE_UNAVAILABLE`` are those of a database that is away, restarted, say.
    ``concurrency_key``, ``concurrency``
        Of the jobs with the same key only so many run at once, over all workers. It may name arguments and the
        ``owner``: ``"report:{owner}"``. Tasks that share keys should share the number.
    ``notify``
        True: the owner is told in the default words when the job is done. False: silence. A function: called with the
        ``Done`` job on the event loop, so without database work; returns what replaces the default ``title``, ``body``,
        ``level``, ``category``, ``url`` or ``data``, or None for silence.

    Raises TypeError or ValueError, also where ``title`` or ``concurrency_key`` names what is no argument of the task.
    """
    from notifications.jobs import policies

    return policies.policy(
        title=title,
        max_attempts=max_attempts,
        timeout=timeout,
        retry_on=retry_on,
        concurrency_key=concurrency_key,
        concurrency=concurrency,
        notify=notify,
    )


def notify(
    users: Any,
    title: Any,
    *,
    body: Any = "",
    url: str | None = None,
    level: str = "info",
    category: str = "",
    key: str = "",
    data: dict[str, Any] | None = None,
) -> list[uuid.UUID]:
    """Tell one user, or several, something: a durable notification for each, pushed after the commit.

    ``users``
        A user, a primary key, or an iterable of either.
    ``title``, ``body``
        Plain text of at most 200 and 2,000 characters.
    ``url``
        Where a click leads: a path that begins with one ``/``, or an http(s) address, of at most 1,000 characters.
    ``level``
        ``"info"``, ``"success"``, ``"warning"`` or ``"error"``.
    ``category``
        At most 100 characters, to filter by.
    ``key``
        At most 200 characters. A newer notification with the same key archives the unread older ones of that user.
    ``data``
        A dict of at most 4 KiB of JSON, for the browser.

    Returns the ids. Inside a transaction it only inserts, and a rollback leaves nothing behind.
    Raises TypeError or ValueError, and ``django.db.OperationalError`` when the database stays busy.
    """
    from notifications.streams import inbox

    return inbox.create_notifications(
        users, title, body=body, url=url, level=level, category=category, key=key, data=data
    )


async def anotify(users: Any, title: Any, **fields: Any) -> list[uuid.UUID]:
    """See notify()."""
    return await sync_to_async(notify)(users, title, **fields)


def accepted(request: HttpRequest, ask: Callable[[], TaskResult]) -> HttpResponse:
    """Run ``ask`` in one transaction, with the request's user as owner, and answer that its job is accepted.

    ``ask``
        A function without arguments that does the database work and returns what ``enqueue`` returned.

    Answers 202 with ``Location``, ``Retry-After``, ``ETag`` and the job as JSON; a browser that prefers HTML gets 303
    to the job's ``url``, else to the job's page.

    ``Idempotency-Key``
        The same request of the same user again within 24 hours: ``ask`` is not run, the answer is the same job and
        ``Idempotency-Replayed: true``. Another request with the key: 422. The key is stored on the job that ``ask``
        returned, unless it has one of its own by ``.using(key=...)``: then ``ask`` runs again.
    ``Prefer: wait=N``
        200 with ``Content-Location`` where the job is done within N seconds, at most 20. Not inside a transaction of
        the caller, where nobody sees the job yet, and not under WSGI.

    Too many active jobs, or asked for too often: 429; a database that is busy, full or away: 503, both with
    ``Retry-After``. Errors of ``ask`` are the caller's, and nothing is left. ``request`` may be one of Django REST
    framework. Raises TypeError for an ``ask`` that returns something else.
    """
    from notifications.http import acceptance

    return acceptance.accept(request, ask)


async def aaccepted(request: HttpRequest, ask: Callable[[], TaskResult]) -> HttpResponse:
    """See accepted(). ``ask`` runs in a thread; while the answer waits, none is held."""
    from notifications.http import acceptance

    return await acceptance.aaccept(request, ask)


def join(job: Any, timeout: float | None = None) -> Any:
    """Wait until a job is done and return what its task returned. In async code: ``await ajoin(...)``.

    ``job``
        What ``enqueue`` returned, the id of a job, or a batch.
    ``timeout``
        Seconds to wait at most; for ever if None.

    Raises ``JobFailed`` (its ``error`` says why), ``JobCancelled`` or ``JobDoesNotExist``, all of
    ``notifications.exceptions``; TimeoutError, and the job goes on; RuntimeError inside a transaction, where a job that
    is not done never will be. Whoever stops waiting leaves the job alone.

    Driven by the doorbell, in every process. No database connection is held while it waits, and a job that waits leaves
    its place in the worker to others, so that parents cannot starve their children.
    """
    from notifications.jobs import joining
    from notifications.realtime import doorbell

    return joining.join(job, timeout, listen=doorbell.listen)


async def ajoin(job: Any, timeout: float | None = None) -> Any:  # noqa: ASYNC109 (as join has it)
    """See join()."""
    from notifications.http import waiting
    from notifications.jobs import joining
    from notifications.realtime import doorbell

    return await joining.ajoin(job, timeout, listen=doorbell.listen, let_go=waiting.release_connections)


def get_job(id: uuid.UUID | str) -> JobInfo:
    """Return a job as it is now. Raises ``JobDoesNotExist`` of ``notifications.exceptions``.

    It does not check who asks. Compare ``owner_id`` with the user before showing a job whose id came from a request.
    """
    from notifications.jobs import info

    return info.get_job(id)


async def aget_job(id: uuid.UUID | str) -> JobInfo:
    """See get_job()."""
    return await sync_to_async(get_job)(id)


def get_jobs(ids: Iterable[uuid.UUID | str]) -> dict[uuid.UUID, JobInfo]:
    """Return the jobs with these ids in one query, by id. Ids without a job are left out."""
    from notifications.jobs import info

    return info.get_jobs(ids)


async def aget_jobs(ids: Iterable[uuid.UUID | str]) -> dict[uuid.UUID, JobInfo]:
    """See get_jobs()."""
    return await sync_to_async(get_jobs)(ids)


def jobs_of(user: Any, *, limit: int = 100) -> list[JobInfo]:
    """Return the newest jobs that a user (or primary key) owns, newest first, at most ``limit``.

    Done jobs are included until they are pruned.
    """
    from notifications.jobs import info

    return info.jobs_of(user, limit)


async def ajobs_of(user: Any, *, limit: int = 100) -> list[JobInfo]:
    """See jobs_of()."""
    return await sync_to_async(jobs_of)(user, limit=limit)


async def release_connections() -> None:
    """Close the database connections of the current request before a long await.

    An async view that has used the database keeps its connection, and the thread that opened it, until it has answered.
    Call this before awaiting another service. Later queries open a new connection. A connection inside a transaction
    stays open.
    """
    from notifications.http import waiting

    await waiting.release_connections()


def batch(
    *,
    owner: Any = None,
    title: Any = None,
    url: str | None = None,
    notify: bool | Callable[[Done], Mapping[str, Any] | None] = True,
) -> Batch:
    """Enqueue the jobs of a ``with`` block as one batch, with one progress and one notification at its end.

    ::

        with batch(owner=user, title="Check 40 sites") as b:
            for site in sites:
                check.enqueue(site.pk)
        counts = join(b)                 # {"succeeded": 40, "failed": 0, "cancelled": 0}

    ``owner``
        User or primary key; by default the owner that a job would have. The jobs work for the owner, but have no owner
        themselves unless ``.using(owner=...)`` gives one: they do not count as active jobs of the owner, and notify no
        one.
    ``title``
        Text of at most 200 characters; by default the number of jobs.
    ``url``
        Where the result is shown, as for a job.
    ``notify``
        As in ``policy``. A function must stand at the top level of a module, because another process may call it.

    At the end of the block all jobs are inserted in one transaction, which is the caller's if there is one. An
    exception inside the block enqueues nothing. The batch is a job itself (``b.id``, ``b.result``). Its progress counts
    the jobs that are done. When all are done it has succeeded, or failed with ``"batch-failed"`` if one did not
    succeed. Cancelling a batch cancels its jobs; retrying it retries those that did not succeed. A batch inside a batch
    is one of its jobs.

    Raises TypeError or ValueError, and ``TooManyJobs`` and ``django.db.OperationalError`` at the end of the block.
    """
    from notifications.jobs.batches import Batch

    return Batch(owner=owner, title=title, url=url, notify=notify)


def abatch(**options: Any) -> Batch:
    """See batch(): ``async with abatch(...) as b``, and ``await`` each ``aenqueue`` inside."""
    return batch(**options)


def requester(user: Any) -> AbstractContextManager[None]:
    """Make ``user`` (or a primary key) the owner of the jobs that are enqueued inside the ``with`` block."""
    from notifications.jobs.enqueueing import owners

    return owners.requester(user)


def progress(current: int, total: int | None = None, message: str = "") -> None:
    """Say how far the running job is, from anywhere below its task. Outside a job it does nothing.

    ``current``, ``total``
        Numbers from 0 to 2^53-1, ``total`` None while it is not known.
    ``message``
        At most 200 characters.

    Costs no query: the worker writes the progress of all its jobs twice a second. Raises TypeError or ValueError.
    """
    from notifications.jobs.worker import execution

    execution.progress(current, total, message)


def track(items: Iterable[T], *, message: str = "") -> Iterator[T]:
    """Yield the items and report the progress through them: ``for row in track(rows): …``."""
    from notifications.jobs.worker import execution

    return execution.track(items, message=message)
