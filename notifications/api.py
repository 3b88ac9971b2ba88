"""The public functions of the app.

This module may be imported before the models are ready, so that a module with tasks can be imported from anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string

from notifications.context import requester
from notifications.db import unavailable
from notifications.db.async_twins import names_async_twin
from notifications.db.job_sessions import app_sync_to_async
from notifications.http import waiting_requests
from notifications.jobs import job_context
from notifications.jobs.declaring.policies import FinishedJob, NotifyOption, policy
from notifications.jobs.durable_calls import apause, pause
from notifications.jobs.info import JobInfo, WaitInfo, get_job, get_jobs, jobs_of
from notifications.jobs.notification_info import NotificationInfo, mark_read, notifications_of, unread_count
from notifications.jobs.waits import EndedWait, aend_wait, await_for, end_wait, wait_for

if TYPE_CHECKING:
    from django.utils.functional import Promise

    from notifications.jobs.batches import Batch, BatchCounts
    from notifications.jobs.declaring.task_types import HasReturnValue, task
else:
    from notifications.compat import task

__all__ = [
    "DATABASE_UNAVAILABLE",
    "Batch",
    "EndedWait",
    "FinishedJob",
    "JobInfo",
    "NotificationInfo",
    "WaitInfo",
    "aaccepted",
    "abatch",
    "accepted",
    "aend_wait",
    "aget_job",
    "aget_jobs",
    "ajobs_of",
    "ajoin",
    "amark_read",
    "anotifications_of",
    "anotify",
    "apause",
    "aunread_count",
    "await_for",
    "batch",
    "end_wait",
    "get_job",
    "get_jobs",
    "jobs_of",
    "join",
    "mark_read",
    "notifications_of",
    "notify",
    "pause",
    "policy",
    "progress",
    "release_connections",
    "requester",
    "task",
    "track",
    "unread_count",
    "wait_for",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

#: What Django raises while the database is restarted, unreachable or busy: ``@policy(retry_on=DATABASE_UNAVAILABLE)``.
DATABASE_UNAVAILABLE: tuple[type[Exception], ...] = unavailable.DATABASE_UNAVAILABLE


def __getattr__(name: str) -> Any:
    if name == "Batch":  # Its module imports models.
        return import_string("notifications.jobs.batches.Batch")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@names_async_twin
def notify(
    users: Any,
    title: str | Promise,
    *,
    body: str | Promise = "",
    url: str | None = None,
    level: Literal["info", "success", "warning", "error"] = "info",
    category: str = "",
    key: str = "",
    data: dict[str, Any] | None = None,
    actions: Sequence[Mapping[str, str]] = (),
    icon: str = "",
    actor: str | Promise | Mapping[str, str | None] | None = None,
    target: str | Promise | Mapping[str, str | None] | None = None,
    group: str | Promise = "",
    deliver: Sequence[Mapping[str, float | timedelta]] | None = None,
) -> list[UUID]:
    """Create a notification for each user and push it after the commit. Return the ids of the notifications.

    ``users``
        A user, a primary key, an iterable of either, or a group, whose active users are notified.
    ``title``, ``body``
        Plain text of at most 200 and 2,000 characters. ``{actor}`` and ``{target}`` in the title become their names.
    ``url``
        Where a click leads: a path that begins with one ``/``, or an http(s) address, of at most 1,000 characters.
    ``level``
        ``"info"``, ``"success"``, ``"warning"`` or ``"error"``.
    ``category``, ``group``
        Text of at most 100 characters, by which users filter, and by which the inbox shows notifications as one row.
    ``key``
        At most 200 characters. A newer notification with the same key archives the unread older ones of that user.
    ``data``
        A dict of at most 4 KiB of JSON, for the browser.
    ``actions``
        At most three buttons, stored as ``data["actions"]``: dicts of ``label``, at most 40 characters, and either
        ``url``, a link as above, or ``post``, a path of this site to which a request is posted where it is pressed.
        One with ``danger``, a sentence of at most 200 characters that says what is lost, is red, and asks first.
    ``icon``
        The name of an icon, such as ``"download"``, in place of that of the level. Stored as ``data["icon"]``.
    ``actor``, ``target``
        Who has caused it, whose initials are its icon, and what it is about: names of at most 100 characters, or dicts
        of ``name`` and a link, ``image`` of the actor, and ``url`` of the target, which is the ``url`` if there is no
        other. Stored as ``data["actor"]`` and ``data["target"]``.
    ``deliver``
        Steps like ``[{"email": 600}]``, in place of those that ``NOTIFICATIONS["DELIVERY"]`` has for the category: a
        channel, and seconds or a timedelta after which it goes by it if it is still open. ``[]`` for the page only.

    Inside a transaction it only inserts rows, so a rollback removes them.
    Raises TypeError or ValueError, and ``django.db.OperationalError`` when the database stays busy.
    """
    from notifications.jobs import notifying

    return notifying.notify(
        users,
        title,
        body=body,
        url=url,
        level=level,
        category=category,
        key=key,
        data=data,
        actions=actions,
        icon=icon,
        actor=actor,
        target=target,
        group=group,
        deliver=deliver,
    )


def _awaitable(function: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Return an async function of the same parameters, which calls this one in a thread."""

    @wraps(function)
    async def call(*args: P.args, **options: P.kwargs) -> R:
        return await app_sync_to_async(function)(*args, **options)

    call.__name__, call.__doc__ = f"a{function.__name__}", f"See {function.__name__}()."
    return call


aget_job = _awaitable(get_job)
aget_jobs = _awaitable(get_jobs)
ajobs_of = _awaitable(jobs_of)
anotify = _awaitable(notify)
anotifications_of = _awaitable(notifications_of)
aunread_count = _awaitable(unread_count)
amark_read = _awaitable(mark_read)


@names_async_twin
def accepted(request: HttpRequest, enqueue: Callable[[], HasReturnValue[object]]) -> HttpResponse:
    """Call ``enqueue`` in one transaction, with the request's user as owner, and return 202 Accepted with the job.

    ``enqueue``
        A function without arguments that does the database work and returns what ``Task.enqueue`` returned.

    The response is 202 with ``Location``, ``Retry-After``, ``ETag`` and the job as JSON. A browser that prefers HTML
    gets 303 to the job's ``url``, else to the job's page.

    ``Idempotency-Key``
        When the same user repeats the same request within 24 hours, ``enqueue`` is not called, and the response is the
        same job with ``Idempotency-Replayed: true``. A different request with the key gets 422. The key is stored on
        the job that ``enqueue`` returned, unless that has its own from ``.using(key=...)``: then ``enqueue`` is called
        again.
    ``Prefer: wait=N``
        200 with ``Content-Location`` if the job is done within N seconds, at most 20. It has no effect under WSGI, or
        inside a transaction of the caller, where no worker sees the job yet.
    ``Callback-URL``
        The end of the job calls this URL, if its origin is in ``NOTIFICATIONS["CALLBACK_ORIGINS"]``; else 422. The
        response confirms it by the same header.

    Too many active jobs, or too many within a minute: 429. A database that is busy, full or unreachable: 503. Both have
    ``Retry-After``. Exceptions of ``enqueue`` propagate after a rollback. ``request`` may be one of Django REST
    framework. Raises TypeError if ``enqueue`` returns something else.
    """
    from notifications.http import acceptance

    return acceptance.accept(request, enqueue)


async def aaccepted(request: HttpRequest, enqueue: Callable[[], HasReturnValue[object]]) -> HttpResponse:
    """See accepted(). ``enqueue`` is called in a thread. No thread is held while the response waits for the job."""
    from notifications.http import acceptance

    return await acceptance.aaccept(request, enqueue)


@overload
def join(job: HasReturnValue[R], timeout: float | None = None) -> R: ...
@overload
def join(job: Batch, timeout: float | None = None) -> BatchCounts: ...
@overload
def join(job: UUID | str | JobInfo, timeout: float | None = None) -> Any: ...
def join(job: Any, timeout: float | None = None) -> Any:
    """Wait until a job is done and return what its task returned. Async code awaits ``ajoin()``.

    ``job``
        What ``enqueue`` returned, the id of a job, or a batch.
    ``timeout``
        Seconds to wait at most; None waits without limit.

    Raises ``JobFailed`` (see its ``error``), ``JobCancelled`` or ``JobDoesNotExist`` of ``notifications.exceptions``;
    TimeoutError, while the job continues; RuntimeError inside a transaction if the job is not done, because no worker
    sees it before the commit. Interrupting the wait does not affect the job.

    While it waits it holds no database connection, nor a job that calls it its slot: no parent starves its children.
    """
    from notifications.realtime import doorbell
    from notifications.worker import joining

    return joining.join(job, timeout, listen=doorbell.listen)


@overload
async def ajoin(job: HasReturnValue[R], timeout: float | None = None) -> R: ...
@overload
async def ajoin(job: Batch, timeout: float | None = None) -> BatchCounts: ...
@overload
async def ajoin(job: UUID | str | JobInfo, timeout: float | None = None) -> Any: ...
async def ajoin(job: Any, timeout: float | None = None) -> Any:
    """See join()."""
    from notifications.realtime import doorbell
    from notifications.worker import joining

    return await joining.ajoin(
        job, timeout, listen=doorbell.listen, release_connections=waiting_requests.release_connections
    )


async def release_connections() -> None:
    """Close the database connections of the current request before a long await.

    An async view that has used the database keeps its connection, and the thread that opened it, until it has answered.
    Call this before awaiting another service. A connection inside a transaction stays open.
    """
    await waiting_requests.release_connections()


def batch(
    *,
    owner: Any = None,
    title: str | Promise | None = None,
    url: str | None = None,
    notify: NotifyOption = True,
) -> Batch:
    """Enqueue the jobs of a ``with`` block as one batch, with one progress and one notification at its end.

    ::

        with batch(owner=user, title="Check 40 sites") as b:
            for site in sites:
                check.enqueue(site.pk)
        counts = join(b)                 # {"succeeded": 40, "failed": 0, "cancelled": 0}

    ``owner``
        User or primary key; by default the owner that a job would have. The jobs inherit it for what they enqueue, but
        have no owner themselves unless ``.using(owner=...)`` sets one: they do not count as active jobs of the owner
        and create no notifications.
    ``title``
        Text of at most 200 characters; by default the number of jobs.
    ``url``
        Where the result is shown, as for a job.
    ``notify``
        As in ``policy``. A function must stand at the top level of a module, because another process may call it.

    At the end of the block all jobs are inserted in one transaction, which is the caller's if there is one. An
    exception inside the block enqueues nothing. The batch is a job itself (``b.id``, ``b.result``). When all jobs are
    done it has succeeded, or failed with ``"batch-failed"`` if one did not succeed. Cancelling a batch cancels its
    jobs; retrying it retries those that did not succeed. A batch inside a batch is one of its jobs.

    Raises TypeError or ValueError, and ``TooManyJobs`` and ``django.db.OperationalError`` at the end of the block.
    """
    from notifications.jobs.batches import Batch

    return Batch(owner=owner, title=title, url=url, notify=notify)


def abatch(
    *,
    owner: Any = None,
    title: str | Promise | None = None,
    url: str | None = None,
    notify: NotifyOption = True,
) -> Batch:
    """See batch(): ``async with abatch(...) as b``, and ``await`` each ``aenqueue`` inside."""
    return batch(owner=owner, title=title, url=url, notify=notify)


def progress(current: int, total: int | None = None, message: str | Promise = "") -> None:
    """Report the progress of the running job, from any function that its task calls. Outside a job it does nothing.

    ``current``, ``total``
        From 0 to 2^53-1, or the nearest is stored. ``total`` is None if unknown; a ``current`` of None is ignored.
    ``message``
        Shortened to 200 characters; NUL and lone surrogates are replaced by U+FFFD.

    Costs no query: the worker writes the progress of all its jobs twice a second. Raises nothing.
    """
    job_context.progress(current, total, message)


def track(items: Iterable[T], *, message: str | Promise = "") -> Iterator[T]:
    """Yield the items and report the progress through them: ``for row in track(rows): …``."""
    return job_context.track(items, message=message)
