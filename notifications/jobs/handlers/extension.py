"""What handlers add to the recording of jobs and notifications."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any
from uuid import UUID

from notifications.extension import Extension, Pruned, RecordedTransaction, Rows, WaitKind
from notifications.jobs.handlers import checks, events  # noqa: F401  (the import registers the checks)
from notifications.jobs.handlers.declarations import NOTIFICATION_CREATED, load_handlers
from notifications.jobs.handlers.events import Receivers
from notifications.models import Job, JobCallback, Notification, Wait, WebhookAttempt, WebhookEndpoint
from notifications.streams.purging import delete_rows, select_ids

if TYPE_CHECKING:
    from notifications.jobs.outcomes import Outcome


class CallbackKind(WaitKind):
    """A request from outside to a URL that the job has made."""

    kind = str(Wait.Kind.CALLBACK)


class HandlerJobs(Extension):
    """Inserts the jobs of handlers, of webhooks and of the URLs with which jobs were enqueued."""

    name = "notifications.jobs.handlers"
    label = "notifications_handlers"
    wait_kinds = (CallbackKind(),)

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
