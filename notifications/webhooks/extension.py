"""What handlers add to the recording of jobs and notifications."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from notifications.deliveries.calls import events_of_calls
from notifications.extension import Event, Extension, OwnTask, Pruned, RecordedTransaction, Rows, WaitKind
from notifications.jobs.handlers import callbacks, checks, events  # noqa: F401  (the import registers the checks)
from notifications.jobs.handlers.declarations import (
    CALLBACK_TASK,
    NOTIFICATION_ANSWERED,
    NOTIFICATION_CREATED,
    WEBHOOK_TASK,
    load_handlers,
)
from notifications.jobs.handlers.events import Receivers
from notifications.models import Job, JobCallback, Notification, Wait, WebhookAttempt, WebhookEndpoint
from notifications.streams.purging import delete_rows, select_ids
from notifications.webhooks.callback_url import HEADER, read_callback_url

if TYPE_CHECKING:
    from django.http import HttpRequest

    from notifications.jobs.outcomes import Outcome


class CallbackKind(WaitKind):
    """A request from outside to a URL that the job has made."""

    kind = str(Wait.Kind.CALLBACK)


class HandlerJobs(Extension):
    """Inserts the jobs of handlers, of webhooks and of the URLs with which jobs were enqueued."""

    name = "notifications.jobs.handlers"
    label = "notifications_handlers"
    wait_kinds = (CallbackKind(),)

    own_tasks: ClassVar[dict[str, OwnTask]] = dict.fromkeys(
        (WEBHOOK_TASK, CALLBACK_TASK), OwnTask(is_silent=True, is_harmless=True, fails_with_receivers=True)
    )

    def before_accepted(self, request: HttpRequest) -> str | None:
        """Return the URL of the header ``Callback-URL``."""
        return read_callback_url(request) or None

    def on_accepted(self, value: str, job: Job) -> None:
        callbacks.store_url(job, value)

    def headers_of_accepted(self, value: str, job: Job) -> Mapping[str, str]:
        """Confirm the URL, unless the job has ended before, or has that of an earlier request."""
        return {HEADER: value} if callbacks.url_of(job.id) == value else {}

    def prepare(self) -> None:
        load_handlers()  # imports their tasks

    def rows_per_notification(self) -> int:
        return events.count_jobs_per_notification()

    def rows_per_end(self) -> int:
        return events.count_jobs_per_end()

    def on_ends(self, outcomes: Sequence[Outcome], tx: RecordedTransaction) -> Rows:
        handlers = load_handlers()
        if not (handlers.by_event or handlers.webhook or handlers.callback):
            return ()
        raising = [outcome for outcome in outcomes if outcome.job.task_path not in handlers.task_paths]
        if not raising:
            return ()
        receivers = tx.kept[self.label] = Receivers(outcome.job.user_id for outcome in raising)
        ended = [outcome.job for outcome in raising if outcome.job.state != Job.State.WAITING]
        return chain(
            events.build_callbacks(ended), events.build_jobs_for_outcomes(raising, receivers, tx.now)
        )

    def on_created(self, rows: Sequence[Notification], tx: RecordedTransaction) -> Rows:
        handlers = load_handlers()
        if not (handlers.webhook or NOTIFICATION_CREATED in handlers.by_event):
            return ()
        silent, raises_without_job = handlers.task_paths, events.may_raise_events()
        raising = [
            row
            for row in rows
            if (job.task_path not in silent if (job := tx.jobs.get(row.id)) else raises_without_job)
        ]
        if not raising:
            return ()
        receivers = self._find_receivers({row.user_id for row in raising}, tx)
        return events.build_jobs_for_notifications(raising, receivers, jobs=tx.jobs)

    def on_answered(self, rows: Sequence[Notification], job: Job, at: datetime) -> Rows:
        if job.task_path in load_handlers().task_paths:
            return ()
        receivers = Receivers(row.user_id for row in rows)
        return events.build_jobs_for_notifications(rows, receivers, NOTIFICATION_ANSWERED, at)

    def events_of(self, subject: Job | Notification, reader: Any) -> Iterable[Event]:
        """Return the attempts to call programs, and what follows them."""
        if isinstance(subject, Job):
            return events_of_calls(job=subject.id, reader=reader)
        return events_of_calls(subject.id, subject.job, reader=reader)

    def delete_of_jobs(self, ids: Sequence[UUID], limit: int) -> bool:
        return delete_rows(JobCallback, "job", ids, limit) == limit

    def delete_of_users(self, keys: Sequence[Any]) -> int:
        if not (endpoints := select_ids(WebhookEndpoint, "user_id", keys)):
            return 0
        return delete_rows(WebhookAttempt, "endpoint", endpoints) or delete_rows(
            WebhookEndpoint, "id", endpoints
        )

    def pruned(self) -> Sequence[Pruned]:
        return [Pruned(WebhookAttempt, "started_at", "attempts of webhooks")]

    def _find_receivers(self, users: Iterable[Any], tx: RecordedTransaction) -> Receivers:
        read: Receivers | None = tx.kept.get(self.label)
        return read if read and read.users.issuperset(users) else Receivers(users)
