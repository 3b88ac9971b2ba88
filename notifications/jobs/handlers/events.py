"""Insert the jobs of handlers, and of webhooks, in the transaction of the event.

No code of the project is called here: its tasks were imported before the transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

from django.utils import translation

from notifications import serializers, streams, times, validators
from notifications.compat import should_send, task_backends, task_enqueued
from notifications.context import current_execution
from notifications.db import bulk, project_code, signal_queue
from notifications.db.transactions import MAX_ROWS_PER_TRANSACTION, on_commit
from notifications.jobs import ports, results
from notifications.jobs.claiming.executors import DISPATCHED
from notifications.jobs.declaring.policies import job_concurrency_key, job_title, sender_key
from notifications.jobs.handlers import callbacks
from notifications.jobs.handlers.declarations import (
    END_EVENTS,
    JOB_WAITING,
    NOTIFICATION_ANSWERED,
    NOTIFICATION_CREATED,
    Handler,
    load_handlers,
)
from notifications.jobs.handlers.endpoints import Endpoints, most_per_event
from notifications.models import Job, Notification
from notifications.serializers import make_item
from notifications.tracing import trace_context

if TYPE_CHECKING:
    from notifications.jobs.outcomes import Outcome

logger = logging.getLogger("notifications.jobs")


#: A value, and the same as JSON.
Item = tuple[dict[str, Any] | None, str]
NO_ITEM: Item = (None, "null")
#: Whether signals of a handler's job are sent in this context.
_is_signal_of_handler: ContextVar[bool] = ContextVar("notifications_signal_of_handler", default=False)


@contextmanager
def signals_of(task_path: str) -> Iterator[None]:
    """Send the signals of a job of this task inside the block.

    What receivers notify of the job of a handler raises no events, or it would enqueue that job again, without end.
    """
    token = _is_signal_of_handler.set(task_path in load_handlers().task_paths or _is_signal_of_handler.get())
    try:
        yield
    finally:
        _is_signal_of_handler.reset(token)


def may_raise_events() -> bool:
    """Return whether what is notified now raises events: not in the jobs of handlers and their signals."""
    execution = current_execution()
    if execution is not None and execution.job.task_path in load_handlers().task_paths:
        return False
    return not _is_signal_of_handler.get()


class Receivers:
    """Who gets the events of some users: the handlers, and the endpoints of webhooks, which are read now."""

    def __init__(self, users: Iterable[Any]) -> None:
        handlers = load_handlers()
        self._handlers, self._webhook = handlers.by_event, handlers.webhook
        self._endpoints = Endpoints(users) if self._webhook else None

    def __bool__(self) -> bool:
        return bool(self._handlers or self._endpoints)

    def exist(self, type: str, user: Any) -> bool:
        """Return whether an event of a user has receivers."""
        return type in self._handlers or bool(self._endpoints and self._endpoints.find(type, user))

    def build_jobs(self, type: str, user: Any, event: Item, source: UUID, **columns: Any) -> Iterator[Job]:
        """Yield the unsaved jobs of an event of a notification or job, whose id is the ``source``."""
        columns["event_source"] = source
        for handler in self._handlers.get(type, ()):
            yield _build(handler, event, **columns)
        if self._endpoints is None or self._webhook is None:
            return
        value, text = event
        of_user = self._endpoints.find_of_user(type, user)
        for id in [*self._endpoints.find_of_site(type), *of_user]:
            with_endpoint = {"endpoint": id, **(value or {})}, f'{{"endpoint":"{id}",{text[1:]}'
            job = _build(self._webhook, with_endpoint, **columns)
            if id in of_user:  # all that is sent for a user shares one limit
                job.concurrency_key = sender_key(user)
            yield job


def build_jobs_for_ends(ended: Sequence[Outcome]) -> list[Job]:
    """Return the unsaved jobs for the ends of jobs, which are about to be written, and their notifications.

    The fields of the rows have their new values already, but for ``version``.
    """
    silent = load_handlers().task_paths
    if not (raising := [outcome for outcome in ended if outcome.job.task_path not in silent]):
        return []
    receivers = Receivers(outcome.job.user_id for outcome in raising)
    urls = callbacks.read_urls(outcome.job.id for outcome in raising)
    built = [_build_callback(o.job, urls[o.job.id]) for o in raising if o.job.id in urls]
    for outcome in raising if receivers else ():
        job, notification, user = outcome.job, outcome.notification, outcome.job.user_id
        types = [f"job.{outcome.state}", *([NOTIFICATION_CREATED] if notification else [])]
        if types := [type for type in types if receivers.exist(type, user)]:
            written = copy(job)
            written.version += 1
            made = make_item(written), make_item(notification) if notification else NO_ITEM
            for type in types:
                event = _make_event(type, written, notification, *made)
                source = notification.id if notification and type == NOTIFICATION_CREATED else job.id
                columns = {"language": job.language, "trace": job.trace}
                built += receivers.build_jobs(type, user, event, source, **columns)
    return built


def build_jobs_for_waiting(jobs: Sequence[Job], now: datetime) -> list[Job]:
    """Return the unsaved jobs for jobs that are being suspended now. Their fields are new, but for ``version``."""
    silent = load_handlers().task_paths
    raising = [job for job in jobs if job.task_path not in silent]
    receivers = Receivers(job.user_id for job in raising)
    built: list[Job] = []
    for job in raising if receivers else ():
        if receivers.exist(JOB_WAITING, job.user_id):
            written = copy(job)
            written.version += 1
            event = _make_event(JOB_WAITING, written, None, make_item(written), NO_ITEM, at=now)
            columns = {"language": job.language, "trace": job.trace}
            built += receivers.build_jobs(JOB_WAITING, job.user_id, event, job.id, **columns)
    return built


def build_jobs_for_notifications(
    rows: Sequence[Notification], type: str = NOTIFICATION_CREATED, at: datetime | None = None
) -> list[Job]:
    """Return the unsaved jobs for notifications that are not those of jobs that end.

    ``at``
        The time of the event, if it is not the creation.
    """
    receivers = Receivers(row.user_id for row in rows)
    columns = {"language": translation.get_language() or "", "trace": trace_context.serialize()}
    built: list[Job] = []
    for row in rows if receivers else ():
        if receivers.exist(type, row.user_id):
            event = _make_event(type, None, row, NO_ITEM, make_item(row), at=at)
            built += receivers.build_jobs(type, row.user_id, event, row.id, **columns)
    return built


def count_jobs_per_notification() -> int:
    """Return how many jobs a notification inserts: those of its handlers, and as many webhooks as the last one."""
    handlers = load_handlers()
    webhooks = most_per_event[NOTIFICATION_CREATED] if handlers.webhook else 0
    return len(handlers.by_event.get(NOTIFICATION_CREATED, ())) + webhooks


def count_jobs_per_end() -> int:
    """Return how many jobs the end of a job inserts at most, with those for its notification, by the same measure."""
    handlers = load_handlers()
    count = handlers.jobs_per_end + (handlers.callback is not None)
    if not handlers.webhook:
        return count
    webhooks = max(most_per_event[type] for type in END_EVENTS)
    return count + webhooks + most_per_event[NOTIFICATION_CREATED]


def insert_jobs(jobs: Sequence[Job]) -> None:
    """Insert jobs of handlers and webhooks. ``wake_workers`` follows in the same transaction."""
    for start in range(0, len(jobs), MAX_ROWS_PER_TRANSACTION):
        bulk.insert(jobs[start : start + MAX_ROWS_PER_TRANSACTION])


def wake_workers(jobs: Sequence[Job]) -> None:
    """Have inserted jobs claimed, or dispatched to their engine, after the commit, as ``enqueue()`` does."""
    if not jobs:
        return
    streams.ring_new_jobs(jobs)
    if any(job.executor == DISPATCHED for job in jobs):
        ports.engines.send_after_commit(jobs)
    if should_send(task_enqueued, logging.DEBUG):
        on_commit(lambda: signal_queue.send_later(lambda: _send_enqueued(jobs), jobs=len(jobs)))


def _make_event(
    type: str,
    job: Job | None,
    notification: Notification | None,
    job_item: Item,
    notification_item: Item,
    *,
    at: datetime | None = None,
) -> Item:
    """Return an event with its JSON. All handlers get the same ``id``, however often their jobs are executed."""
    if type in (NOTIFICATION_CREATED, NOTIFICATION_ANSWERED):
        assert notification is not None
        id, user, at = str(notification.id), notification.user_id, at or notification.created_at
    else:
        assert job is not None
        id, user, at = _end_id(job), job.user_id, at or job.finished_at
    if type in (NOTIFICATION_ANSWERED, JOB_WAITING):
        # A job may be cancelled while it waits, and an answered notification was created: both are other events.
        id = f"{id}:{type.partition('.')[2]}"
    about = {
        "type": type,
        "id": id,
        "at": serializers.format_time(at),
        "user": user if user is None or isinstance(user, int) else str(user),
    }
    event = {**about, "job": job_item[0], "notification": notification_item[0]}
    items = f'"job":{job_item[1]},"notification":{notification_item[1]}'
    return event, f"{serializers.encode(about)[:-1]},{items}}}"


def _build_callback(job: Job, url: str) -> Job:
    """Return the unsaved job that calls the URL of a job that ends. Its arguments have the host only."""
    handler = load_handlers().callback
    assert handler is not None
    event = {
        "type": f"job.{job.state}",
        "id": _end_id(job),
        "at": serializers.format_time(job.finished_at),
        "job": str(job.id),
        "host": urlsplit(url).hostname or "",
    }
    columns = {"language": job.language, "trace": job.trace, "event_source": job.id}
    return _build(handler, (event, serializers.encode(event)), **columns)


def _end_id(job: Job) -> str:
    """Return the id of an end of a job. The fence differs for each end of a job that is retried by hand."""
    return f"{job.id}:{job.fence}"


def _build(handler: Handler, event: Item, **columns: Any) -> Job:
    now = times.now()
    value, text = event
    title, concurrency_key = _make_texts(handler, value)
    job = bulk.new(
        Job,
        user_id=None,
        args=f"[{text}]",
        title=title,
        concurrency_key=concurrency_key,
        created_at=now,
        queued_at=now,
        **handler.columns,
        **columns,
    )
    if handler.has_engine:
        ports.engines.prepare(job)
    return job


def _make_texts(handler: Handler, event: Any) -> tuple[str, str]:
    """Return the title and the concurrency key of a job."""
    func, takes_context = handler.task.func, handler.task.takes_context
    try:
        title = job_title(func, takes_context, [event], {})
        key = job_concurrency_key(func, takes_context, [event], {}, None)
        return (
            validators.text("title", title, validators.MAX_TITLE_LENGTH, required=True),
            validators.text("concurrency_key", key, validators.MAX_KEY_LENGTH),
        )
    except Exception as exc:  # the outcome must be stored all the same
        logger.error("The title or concurrency key of a handler's job cannot be made: %s", exc)
        return func.__name__[:200], ""


def _send_enqueued(jobs: Sequence[Job]) -> None:
    for job in jobs:
        backend = type(task_backends[job.backend])
        result = results.task_result(job, attempts=[])
        with signals_of(job.task_path):
            project_code.send(task_enqueued, "task_enqueued", backend, task_result=result)
