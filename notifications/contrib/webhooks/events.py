"""Make events and the jobs that are inserted for them, in the transaction of the event: see ``apps.py``.

No code of the project is called here: its tasks were imported before the transaction. The endpoints of webhooks are
read each time: one that another process has just added gets the next event. The read is a small part of the
transaction, also where there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

from django.utils import translation

from notifications import times
from notifications.contrib.webhooks.calling import read_urls
from notifications.contrib.webhooks.handlers import (
    JOB_WAITING,
    NOTIFICATION_ANSWERED,
    NOTIFICATION_CREATED,
    load_handlers,
)
from notifications.contrib.webhooks.models import WebhookEndpoint
from notifications.db import connection, user_from_db, user_to_db, where_in
from notifications.extension import RecordedTransaction, serialize_trace
from notifications.http import encode_json
from notifications.jobs.declaring.policies import owner_share, sender_key
from notifications.jobs.notifying import signaled_tasks
from notifications.models import Job, Notification
from notifications.serializers import make_item
from notifications.worker import current_execution

if TYPE_CHECKING:
    from notifications.jobs import Outcome

#: The label of the app, by which it keeps the receivers in a transaction.
LABEL = "notifications_webhooks"
#: A value, and the same as JSON.
Item = tuple[dict[str, Any], str]
#: Users of one query.
MAX_USERS_PER_QUERY = 500


def build_jobs_for_outcomes(outcomes: Sequence[Outcome], tx: RecordedTransaction) -> Iterable[Job]:
    """Return the unsaved jobs for jobs that are about to end or to wait, but those for their notifications.

    The fields of the rows have their new values already, but for ``version``. The receivers are kept in ``tx`` for
    ``build_jobs_for_created()``.
    """
    handlers = load_handlers()
    if not (handlers.by_event or handlers.webhook or handlers.callback):
        return ()
    raising = [outcome for outcome in outcomes if outcome.job.task_path not in handlers.task_paths]
    if not raising:
        return ()
    receivers = tx.kept[LABEL] = Receivers(outcome.job.user_id for outcome in raising)
    ended = {outcome.job.id: outcome.job for outcome in raising if outcome.job.state != Job.State.WAITING}
    callbacks = [_build_callback(ended[id], url) for id, url in read_urls(ended).items()]
    return chain(callbacks, _build_for_outcomes(raising, receivers, tx.now))


def _build_for_outcomes(
    outcomes: Sequence[Outcome], receivers: Receivers, now: datetime | None
) -> Iterator[Job]:
    for outcome in outcomes if receivers else ():
        job, notification = outcome.job, outcome.notification
        is_waiting = job.state == Job.State.WAITING
        type = JOB_WAITING if is_waiting else f"job.{outcome.state}"
        if receivers.exist(type, job.user_id):
            event = _make_event(type, _written(job), notification, now if is_waiting else job.finished_at)
            columns = {"language": job.language, "trace": job.trace}
            yield from receivers.build_jobs(type, job.user_id, event, job.id, **columns)


def build_jobs_for_created(rows: Sequence[Notification], tx: RecordedTransaction) -> Iterable[Job]:
    """Return the unsaved jobs for new notifications."""
    handlers = load_handlers()
    if not (handlers.webhook or NOTIFICATION_CREATED in handlers.by_event):
        return ()
    silent, raises_without_job = handlers.task_paths, _may_raise_events()
    raising = [
        row
        for row in rows
        if (job.task_path not in silent if (job := tx.jobs.get(row.id)) else raises_without_job)
    ]
    if not raising:
        return ()
    users = {row.user_id for row in raising}
    receivers: Receivers | None = tx.kept.get(LABEL)
    if receivers is None or not receivers.users.issuperset(users):
        receivers = Receivers(users)
    return _build_for_notifications(raising, receivers, jobs=tx.jobs)


def build_jobs_for_answered(
    change: str, rows: Sequence[Notification], tx: RecordedTransaction
) -> Iterable[Job]:
    """Return the unsaved jobs for notifications of a question that is answered, which a job has asked."""
    if change != "answered" or tx.jobs[rows[0].id].task_path in load_handlers().task_paths:
        return ()
    receivers = Receivers(row.user_id for row in rows)
    return _build_for_notifications(rows, receivers, NOTIFICATION_ANSWERED, tx.now)


def _may_raise_events() -> bool:
    """Return whether what is notified now raises events: not in the jobs of handlers and their signals.

    Or a handler that notifies would be enqueued again by that, without end.
    """
    silent = load_handlers().task_paths
    execution = current_execution()
    if execution is not None and execution.job.task_path in silent:
        return False
    return silent.isdisjoint(signaled_tasks())


def _build_for_notifications(
    rows: Sequence[Notification],
    receivers: Receivers,
    type: str = NOTIFICATION_CREATED,
    at: datetime | None = None,
    jobs: Mapping[UUID, Job] | None = None,
) -> Iterator[Job]:
    """Yield the unsaved jobs for notifications.

    ``at``
        The time of the event, if it is not the creation.
    ``jobs``
        The jobs that make notifications, by the ids of these. Those that end are in the events.
    """
    of_thread = {"language": translation.get_language() or "", "trace": serialize_trace()}
    for row in rows if receivers else ():
        if receivers.exist(type, row.user_id):
            job = jobs.get(row.id) if jobs else None
            ended = _written(job) if job and job.done else None
            event = _make_event(type, ended, row, at or row.created_at)
            columns = {"language": job.language, "trace": job.trace} if job else of_thread
            yield from receivers.build_jobs(type, row.user_id, event, row.id, **columns)


def _written(job: Job) -> Job:
    """Return a job with the version that its row is about to get."""
    written = copy(job)
    written.version += 1
    return written


def _make_event(type: str, job: Job | None, notification: Notification | None, at: datetime | None) -> Item:
    """Return an event with its JSON. All handlers get the same ``id``, however often their jobs are executed."""
    if type in (NOTIFICATION_CREATED, NOTIFICATION_ANSWERED):
        assert notification is not None
        id, user = str(notification.id), notification.user_id
    else:
        assert job is not None
        id, user = _end_id(job), job.user_id
    if type in (NOTIFICATION_ANSWERED, JOB_WAITING):
        # A job may be cancelled while it waits, and an answered notification was created: both are other events.
        id = f"{id}:{type.partition('.')[2]}"
    about = {
        "type": type,
        "id": id,
        "at": times.format_time(at),
        "user": user if user is None or isinstance(user, int) else str(user),
    }
    job_value, job_text = make_item(job) if job else (None, "null")
    value, text = make_item(notification) if notification else (None, "null")
    event = {**about, "job": job_value, "notification": value}
    return event, f'{encode_json(about)[:-1]},"job":{job_text},"notification":{text}}}'


def _build_callback(job: Job, url: str) -> Job:
    """Return the unsaved job that calls the URL of a job that ends. Its arguments have the host only."""
    handler = load_handlers().callback
    assert handler is not None
    event = {
        "type": f"job.{job.state}",
        "id": _end_id(job),
        "at": times.format_time(job.finished_at),
        "job": str(job.id),
        "host": urlsplit(url).hostname or "",
    }
    columns = {"language": job.language, "trace": job.trace, "event_source": job.id}
    callback = handler.build_job(event, encode_json(event), **columns)
    if job.user_id is not None:
        callback.concurrency_key = sender_key(job.user_id)
    return callback


def _end_id(job: Job) -> str:
    """Return the id of an end of a job. The fence differs for each end of a job that is retried by hand."""
    return f"{job.id}:{job.fence}"


class Receivers:
    """Who gets the events of some users (keys): the handlers, and the endpoints of webhooks, which are read now."""

    def __init__(self, users: Iterable[Any]) -> None:
        handlers = load_handlers()
        self._handlers, self._webhook = handlers.by_event, handlers.webhook
        self.users = set(users)
        #: The ids of endpoints that are on, by event and user (key); None: those of the whole site.
        self._endpoints: dict[tuple[str, Any], list[str]] = {}
        if self._webhook:
            self._read_endpoints()

    def __bool__(self) -> bool:
        return bool(self._handlers or self._endpoints)

    def exist(self, type: str, user: Any) -> bool:
        """Return whether an event of a user has receivers."""
        return type in self._handlers or (type, None) in self._endpoints or (type, user) in self._endpoints

    def build_jobs(self, type: str, user: Any, event: Item, source: UUID, **columns: Any) -> Iterator[Job]:
        """Yield the unsaved jobs of an event of a notification or job, whose id is the ``source``."""
        columns["event_source"] = source
        of_handlers = columns if user is None else {**columns, "share_name": owner_share(user)}
        for handler in self._handlers.get(type, ()):
            yield handler.build_job(*event, **of_handlers)
        if self._webhook is None:
            return
        value, text = event
        for owner in dict.fromkeys((None, user)):
            for id in self._endpoints.get((type, owner), ()):
                with_endpoint = {"endpoint": id, **value}, f'{{"endpoint":"{id}",{text[1:]}'
                job = self._webhook.build_job(*with_endpoint, **columns)
                if owner is not None:  # all that is sent for a user shares one limit
                    job.concurrency_key = sender_key(user)
                yield job

    def _read_endpoints(self) -> None:
        keys = sorted({user_to_db(user) for user in self.users if user is not None})
        for start in range(0, max(len(keys), 1), MAX_USERS_PER_QUERY):
            conditions = ["user_id IS NULL"] if start == 0 else []
            params: list[Any] = []
            if some := keys[start : start + MAX_USERS_PER_QUERY]:
                of_users, params = where_in(WebhookEndpoint, "user_id", some)
                conditions.append(of_users)
            with connection().cursor() as cursor:
                cursor.execute(
                    f"SELECT id, user_id, events FROM {WebhookEndpoint._meta.db_table} "
                    f"WHERE off_at IS NULL AND ({' OR '.join(conditions)})",
                    params,
                )
                rows = cursor.fetchall()
            for id, user, events in rows:
                for event in events.split():
                    key = (event, None if user is None else user_from_db(user))
                    self._endpoints.setdefault(key, []).append(str(UUID(str(id))))
