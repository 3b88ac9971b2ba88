"""Webhooks: jobs and calls of programs for events, such as the end of a job or a new notification.

models            endpoints of webhooks, attempts to call them, and the URLs that requests have sent
handlers          the tasks in ``NOTIFICATIONS["HANDLERS"]``, imported and checked
checks            the system check of the handlers
events            events, who gets them, and the jobs that are inserted for them in their transaction
sending           the task that sends an event to an endpoint
endpoints         the verbs by which endpoints are created and changed, which the package exports
signing           signs webhooks and verifies those of others
urls, api_views   the API by which users change their own webhooks
admin             the page of webhooks
calling           the header ``Callback-URL`` of requests, and the task that calls it when the job has ended
callbacks         ``callback()``: a job waits until an upstream calls its URL
callback_storage  the rows of these
callback_view     the view of these
timeline          what became of the calls, in timelines of jobs and notifications
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.utils.translation import gettext_lazy as _

from notifications.extension import Extension, OwnTask, Setting, WaitKind, import_later

#: Of each of its tasks.
_OWN = OwnTask(is_silent=True, is_harmless=True, fails_with_receivers=True)


class CallbackKind(WaitKind):
    """A request from outside to a URL that the job has made."""

    kind, label = "callback", _("Callback")


class Webhooks(Extension):
    name = "notifications.contrib.webhooks"
    label = "notifications_webhooks"
    verbose_name = _("Webhooks")
    tables: ClassVar[Mapping[str, str]] = {
        "notifications_webhooks.JobCallback.job": "job",
        "notifications_webhooks.WebhookEndpoint.user_id": "user",
        "notifications_webhooks.WebhookAttempt.endpoint": "notifications_webhooks.WebhookEndpoint",
        "notifications_webhooks.WebhookAttempt.started_at": "age",
    }

    settings: ClassVar[Mapping[str, Setting]] = {
        "CALLBACK_ORIGINS": Setting.of_origins("https://crm.example.com"),
        "HANDLERS": Setting({}),
        "WEBHOOKS": Setting(False),
    }
    wait_kinds = (CallbackKind(),)
    tasks: ClassVar[Mapping[str, OwnTask]] = {
        "notifications.contrib.webhooks.sending.send": _OWN,
        "notifications.contrib.webhooks.calling.call": _OWN,
    }

    def ready(self) -> None:
        from notifications.contrib.webhooks import checks  # noqa: F401  (the import registers it)

    accept = import_later("calling.accept_callback_url")
    prepare = import_later("handlers.load_handlers")
    on_ends = import_later("events.build_jobs_for_outcomes")
    on_created = import_later("events.build_jobs_for_created")
    on_change = import_later("events.build_jobs_for_answered")
    events_of = import_later("timeline.read_calls_of")
