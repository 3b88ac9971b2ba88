"""What became of the calls to programs for notifications and jobs: webhooks, and the callbacks of requests.

The rows have no more of an answer than its status, and of a URL only the host is shown: its path may be a secret.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.utils.translation import gettext as _

from notifications import serializers
from notifications.contrib.webhooks.handlers import CALLBACK_TASK, WEBHOOK_TASK
from notifications.contrib.webhooks.models import JobCallback, WebhookAttempt, WebhookEndpoint
from notifications.db import database
from notifications.extension import Event
from notifications.models import Job, Notification

#: Calls of a notification and its job that are shown, the newest, and attempts of all of them, the first.
MAX_CALLS_SHOWN, MAX_ATTEMPTS_SHOWN = 20, 200
#: The columns of a job that are read.
_COLUMNS = (
    "id",
    "task_path",
    "args",
    "state",
    "attempt",
    "max_attempts",
    "run_after",
    "created_at",
    "queued_at",
    "started_at",
    "finished_at",
    "error",
    "result",
)
#: The tasks that call programs. Others are those of handlers.
_CALLS = (WEBHOOK_TASK, CALLBACK_TASK)


def read_calls_of(subject: Job | Notification, reader: Any) -> list[Event]:
    """Return the attempts to tell programs of a job, or of a notification and its job, and what follows them.

    ``reader`` is the user (key) to whom it is shown: without the webhooks of others. None: staff, who are also shown
    the jobs of handlers.
    """
    job = subject.id if isinstance(subject, Job) else subject.job
    sources = [id for id in {subject.id, job} if id is not None]
    with_handlers = isinstance(subject, Job) and reader is None
    rows = Job.objects.using(database()).filter(event_source__in=sources).only(*_COLUMNS)
    if not with_handlers:
        rows = rows.filter(task_path__in=_CALLS)
    found = list(rows.order_by("-id")[: MAX_CALLS_SHOWN * (1 + with_handlers)])
    sends = [row for row in found if row.task_path in _CALLS][:MAX_CALLS_SHOWN]
    events_of_sends = {send.id: json.loads(send.args)[0] for send in sends}
    endpoints = _read_endpoints(events_of_sends.values())
    if reader is not None:
        sends = [
            send
            for send in sends
            if send.task_path == CALLBACK_TASK
            or (endpoint := endpoints.get(UUID(events_of_sends[send.id]["endpoint"]))) is None
            or endpoint.user_id == reader
        ]
    attempts = _read_attempts([send.id for send in sends])
    events = [
        event
        for send in sends
        for event in _describe(_name(events_of_sends[send.id], endpoints), send, attempts.get(send.id, []))
    ]
    if job is not None and not any(send.task_path == CALLBACK_TASK for send in sends):
        events += _events_before_callback(job)
    events += [_describe_handler(row) for row in found if row.task_path not in _CALLS and row.finished_at]
    return events


def _describe_handler(row: Job) -> Event:
    """Return what became of a job of a handler that has ended."""
    text = _("Handler %(task)s: %(state)s") % {"task": row.task_path, "state": row.get_state_display()}
    return Event(row.started_at or row.created_at, text, until=row.finished_at)


def _read_endpoints(events: Collection[Mapping[str, Any]]) -> dict[UUID, WebhookEndpoint]:
    ids = {UUID(event["endpoint"]) for event in events if "endpoint" in event}
    rows = WebhookEndpoint.objects.using(database()).only("id", "user", "url", "description")
    return {row.id: row for row in rows.filter(id__in=ids)} if ids else {}


def _read_attempts(jobs: Collection[UUID]) -> dict[UUID, list[WebhookAttempt]]:
    found: dict[UUID, list[WebhookAttempt]] = defaultdict(list)
    if jobs:
        rows = WebhookAttempt.objects.using(database()).filter(job__in=jobs)
        for attempt in rows.order_by("started_at", "id")[:MAX_ATTEMPTS_SHOWN]:
            found[attempt.job].append(attempt)
    return found


def _name(event: Mapping[str, Any], endpoints: Mapping[UUID, WebhookEndpoint]) -> str:
    """Return what is called, and why."""
    if "endpoint" not in event:
        return _("Callback to %(host)s") % {"host": event["host"]}
    endpoint = endpoints.get(UUID(event["endpoint"]))
    if endpoint is None:
        return _("Deleted webhook, %(event)s") % {"event": event["type"]}
    name = endpoint.description or urlsplit(endpoint.url).hostname
    return _("Webhook %(webhook)s, %(event)s") % {"webhook": name, "event": event["type"]}


def _describe(name: str, send: Job, attempts: list[WebhookAttempt]) -> Iterator[Event]:
    """Yield the attempts of a job that calls, and its end, or what follows."""
    for attempt in attempts:
        text = _("%(call)s: status %(status)s after %(milliseconds)d ms.")
        if attempt.status is None:
            text = _("%(call)s: no answer (%(error)s).")
        values = {"status": attempt.status, "milliseconds": attempt.milliseconds, "error": attempt.error}
        yield Event(attempt.started_at, text % {"call": name, **values})
    values = {"call": name, "number": send.attempt + 1, "count": send.max_attempts}
    match send.state:
        case Job.State.RUNNING:
            yield Event(None, _("%(call)s: is being sent.") % values)
        case Job.State.QUEUED if send.attempt:
            text = _("%(call)s: will be sent again, as attempt %(number)d of %(count)d.")
            yield Event(send.run_after or send.queued_at, text % values)
        case Job.State.QUEUED:
            yield Event(None, _("%(call)s: not sent yet.") % values)
        case Job.State.FAILED:
            values["error"] = (serializers.job_error(send) or {}).get("detail") or ""
            yield Event(send.finished_at, _("%(call)s: not sent again. %(error)s") % values)
        case Job.State.SUCCEEDED if not attempts:  # which are deleted with their webhook
            text = _("%(call)s: sent.")
            if json.loads(send.result or "{}").get("status") is None:
                text = _("%(call)s: not sent, because it was deleted before.")
            yield Event(send.finished_at, text % values)
        case Job.State.CANCELLED:
            yield Event(send.finished_at, _("%(call)s: cancelled.") % values)


def _events_before_callback(job: UUID) -> Iterator[Event]:
    """Yield that the URL that a request has sent with its job was not called yet, if there is one."""
    callback = JobCallback.objects.using(database()).filter(job=job).first()
    if callback is not None:
        name = _("Callback to %(host)s") % {"host": urlsplit(callback.url).hostname or ""}
        yield Event(None, _("%(call)s: not sent yet.") % {"call": name})
