"""Deliveries: what is still open after its time goes by other channels, as its reader has chosen.

models              deliveries, outages of channels, devices; preferences, readers, digests
rules               which deliveries a notification gets: ``NOTIFICATIONS["DELIVERY"]``, ``deliver=`` of ``notify()``
decisions           what becomes of a delivery: the facts, and ``decide()``
sending, attempts   the duty that enqueues the jobs of deliveries, these tasks, and what becomes of their attempts
storing, outages    what is stored of deliveries, and that a server does not answer
digests             when several notifications go in one message
errors              what errors of sending mean by which a channel has no word
emails, email_texts, unsubscribing    the channel e-mail: how it sends, what it sends, and the links that end it
pushes, devices, vapid, refusals      the channel push, the browsers that have subscribed, the key of the site, and why
                    push services refuse messages
preferences, preference_rows, quiet_hours    by which channels users are notified of each category, muting, pauses, and
                    when only what is urgent is sent
channels            by what users are notified, and what that is called
categories          what the project declares of categories besides their names, and what can be chosen
timeline            what became of the deliveries of a notification, in words
urls, preference_views, preference_api, push_views    the pages of preferences and devices, the API, and what the inbox
                    shows of them
admin               preferences, and the deliveries on the page of a notification
subcommands         ``explain`` and ``vapid``
findings, checks    what ``doctor`` and ``manage.py check`` examine
testing             ``send_deliveries()`` for tests of projects
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.utils.translation import gettext_lazy as _

from notifications.extension import Extension, OwnTask, Setting, import_later


def _is_web_push(value: dict[str, Any]) -> bool:
    types = {"private_key": str, "subject": str, "show_content": bool}
    is_complete = not value or {"private_key", "subject"} <= set(value)
    return is_complete and all(isinstance(each, types.get(key, ())) for key, each in value.items())


class Deliveries(Extension):
    name = "notifications.contrib.deliveries"
    label = "notifications_deliveries"
    verbose_name = _("Deliveries")
    default_auto_field = "django.db.models.BigAutoField"
    tables: ClassVar[Mapping[str, str]] = {
        "notifications_deliveries.Delivery.notification": "notification",
        "notifications_deliveries.Delivery.user_id": "user",
        "notifications_deliveries.Throttle.user_id": "user",
        "notifications_deliveries.PushSubscription.user_id": "user",
        "notifications_deliveries.Preference.user_id": "user",
        "notifications_deliveries.Reader.user_id": "user",
    }

    settings: ClassVar[Mapping[str, Setting]] = {
        "DELIVERY": Setting({}),
        "WEB_PUSH": Setting(
            {},
            is_valid=_is_web_push,
            rule="{'private_key': that of `manage.py notifications vapid`, 'subject': 'mailto:admin@example.com'}, and "
            "optionally 'show_content': True",
            is_secret=True,
        ),
    }
    subcommands: ClassVar[Mapping[str, str]] = {
        "explain": "notifications.contrib.deliveries.subcommands.ExplainCommand",
        "vapid": "notifications.contrib.deliveries.subcommands.VapidCommand",
    }
    channels: ClassVar[Mapping[str, str]] = {
        "email": "notifications.contrib.deliveries.emails.Email",
        "push": "notifications.contrib.deliveries.pushes.Push",
    }
    tasks: ClassVar[Mapping[str, OwnTask]] = {
        "notifications.contrib.deliveries.sending.deliver": OwnTask(is_silent=True),
        "notifications.contrib.deliveries.sending.deliver_digest": OwnTask(is_silent=True),
        # The others call templates and backends of the project.
        "notifications.contrib.deliveries.sending.deliver_async": OwnTask(is_silent=True, is_harmless=True),
        "notifications.contrib.deliveries.sending.deliver_digest_async": OwnTask(
            is_silent=True, is_harmless=True
        ),
    }

    def ready(self) -> None:
        from notifications.contrib.deliveries import checks  # noqa: F401  (the import registers them)

    checks = import_later("findings.make_checks")
    prepare = import_later("rules.prepare")
    before_created = import_later("preferences.mark_muted")
    on_created = import_later("rules.build_deliveries")
    before_raised = import_later("rules.reopen_deliveries")
    duties = import_later("sending.list_duties")
    events_of = import_later("timeline.read_deliveries_of")
    time_zones_of = import_later("preferences.read_time_zones")
    page_data = import_later("preference_views.describe_key")
    page_links = import_later("preference_views.list_links")
    parts_of = import_later("preference_views.list_buttons", rows_with="category")
