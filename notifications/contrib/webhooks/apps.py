"""Webhooks: jobs and calls of programs for events, such as the end of a job or a new notification.

models            endpoints of webhooks, attempts to call them, and the URLs that requests have sent
handlers          the tasks in ``NOTIFICATIONS["HANDLERS"]``, imported and checked
events            events, and the jobs that are inserted for them in their transaction
receivers         who gets an event: handlers, and endpoints of webhooks
sending           the task that sends an event to an endpoint
endpoints         the verbs by which endpoints are created and changed, which the package exports
signing           signs webhooks and verifies those of others
api_views         the API by which users change their own webhooks
admin             the page of webhooks
callback_urls     the header ``Callback-URL`` of requests
calling           the task that calls the URL of a request whose job has ended
callbacks         ``callback()``: a job waits until an upstream calls its URL
callback_storage  the rows of these
callback_view     the view of these
timeline          what became of the calls, in timelines of jobs and notifications
checks            wrong handlers
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.utils.translation import gettext_lazy as _

from notifications.conf import are_origins
from notifications.extension import (
    Event,
    Extension,
    OwnTask,
    Pruned,
    RecordedTransaction,
    Rows,
    Setting,
    WaitKind,
)

if TYPE_CHECKING:
    from django.http import HttpRequest

    from notifications.jobs.outcomes import Outcome
    from notifications.models import Job, Notification

#: Of each of its tasks.
_OWN = OwnTask(is_silent=True, is_harmless=True, fails_with_receivers=True)


class CallbackKind(WaitKind):
    """A request from outside to a URL that the job has made."""

    kind = "callback"


class Webhooks(Extension):
    name = "notifications.contrib.webhooks"
    label = "notifications_webhooks"
    verbose_name = _("Webhooks")
    default_auto_field = "django.db.models.BigAutoField"

    settings: ClassVar[Mapping[str, Setting]] = {
        "CALLBACK_ORIGINS": Setting(
            [], is_valid=are_origins, rule="a list like ['https://crm.example.com'], without paths"
        ),
        "HANDLERS": Setting({}),
        "WEBHOOKS": Setting(False),
    }
    wait_kinds = (CallbackKind(),)
    own_tasks: ClassVar[Mapping[str, OwnTask]] = {
        "notifications.contrib.webhooks.sending.send": _OWN,
        "notifications.contrib.webhooks.calling.call": _OWN,
    }

    def ready(self) -> None:
        from notifications.contrib.webhooks import checks  # noqa: F401  (the import registers them)

    def before_accepted(self, request: HttpRequest) -> str | None:
        """Return the URL of the header ``Callback-URL``."""
        from notifications.contrib.webhooks.callback_urls import HEADER, read_callback_url

        return read_callback_url(request) if HEADER in request.headers else None

    def on_accepted(self, value: str, job: Job) -> None:
        from notifications.contrib.webhooks.callback_urls import store_url

        store_url(job, value)

    def headers_of_accepted(self, value: str, job: Job) -> Mapping[str, str]:
        """Confirm the URL, unless the job has ended before, or is one of another request with another URL."""
        from notifications.contrib.webhooks.callback_urls import HEADER, url_of

        return {HEADER: value} if url_of(job.id) == value else {}

    def prepare(self) -> None:
        from notifications.contrib.webhooks.handlers import load_handlers

        load_handlers()  # imports their tasks

    def rows_per_notification(self) -> int:
        from notifications.contrib.webhooks.events import count_jobs_per_notification

        return count_jobs_per_notification()

    def rows_per_end(self) -> int:
        from notifications.contrib.webhooks.events import count_jobs_per_end

        return count_jobs_per_end()

    def on_ends(self, outcomes: Sequence[Outcome], tx: RecordedTransaction) -> Rows:
        """Return the jobs that handle these ends, without those for their notifications."""
        from notifications.contrib.webhooks import events

        return events.build_jobs_for_outcomes(outcomes, tx, self.label)

    def on_created(self, rows: Sequence[Notification], tx: RecordedTransaction) -> Rows:
        from notifications.contrib.webhooks import events

        return events.build_jobs_for_created(rows, tx, self.label)

    def on_answered(self, rows: Sequence[Notification], job: Job, at: datetime) -> Rows:
        from notifications.contrib.webhooks import events

        return events.build_jobs_for_answered(rows, job, at)

    def events_of(self, subject: Job | Notification, reader: Any) -> Iterable[Event]:
        """Return the attempts to call programs for it, and what follows them."""
        from notifications.contrib.webhooks.timeline import read_calls
        from notifications.models import Job

        if isinstance(subject, Job):
            return read_calls(job=subject.id, reader=reader)
        return read_calls(subject.id, subject.job, reader=reader)

    def delete_of_jobs(self, ids: Sequence[UUID], limit: int) -> bool:
        from notifications.contrib.webhooks.models import JobCallback
        from notifications.streams.purging import delete_rows

        return delete_rows(JobCallback, "job", ids, limit) == limit

    def delete_of_users(self, keys: Sequence[Any]) -> int:
        """Delete their webhooks, and before them the attempts to call these."""
        from notifications.contrib.webhooks.models import WebhookAttempt, WebhookEndpoint
        from notifications.streams.purging import delete_rows, select_ids

        if not (endpoints := select_ids(WebhookEndpoint, "user_id", keys)):
            return 0
        return delete_rows(WebhookAttempt, "endpoint", endpoints) or delete_rows(
            WebhookEndpoint, "id", endpoints
        )

    def pruned(self) -> Sequence[Pruned]:
        from notifications.contrib.webhooks.models import WebhookAttempt

        return [Pruned(WebhookAttempt, "started_at", "attempts of webhooks")]
