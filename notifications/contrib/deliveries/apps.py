"""Deliveries: what is still open after its time goes by other channels, as its reader has chosen.

models              deliveries, outages of channels, devices; preferences, readers, digests
rules               which deliveries a notification gets: ``NOTIFICATIONS["DELIVERY"]``, ``deliver=`` of ``notify()``
decisions           what becomes of a delivery: the facts, and ``decide()``
sending, attempts   the duty that enqueues the jobs of deliveries, these tasks, and what becomes of their attempts
storing, outages    what is stored of deliveries, and that a server does not answer
digests             when several notifications go in one message
errors              what errors of sending mean by which a channel has no word
emails, email_texts, unsubscribing    the channel e-mail: how it sends, what it sends, and the links that end it
pushes, devices, vapid                the channel push, the browsers that have subscribed, and the key of the site
preferences, preference_rows          by which channels users are notified of each category, muting, pauses
timeline            what became of the deliveries of a notification, in words
urls, preference_views, push_views, unsubscribe_views   the pages of preferences, devices and unsubscribing, and the API
inbox_parts         what pages of the core show: links, the button that mutes, the message after it
admin               preferences, and the deliveries on the page of a notification
subcommands         ``explain`` and ``vapid``
findings, checks    what ``doctor`` and ``check`` examine
testing             ``send_deliveries()`` for tests of projects
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.utils.translation import gettext_lazy as _

from notifications.extension import (
    Event,
    Extension,
    OwnTask,
    PageButton,
    Pruned,
    RecordedTransaction,
    Rows,
    Setting,
)

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin
    from django.http import HttpRequest

    from notifications.db.clock import StoredTime
    from notifications.models import Job, Notification
    from notifications.upkeep import Duty, Upkeep


def _is_web_push(value: dict[str, Any]) -> bool:
    types = {"private_key": str, "subject": str, "show_content": bool}
    is_complete = not value or {"private_key", "subject"} <= set(value)
    return is_complete and all(isinstance(each, types.get(key, ())) for key, each in value.items())


class Deliveries(Extension):
    name = "notifications.contrib.deliveries"
    label = "notifications_deliveries"
    verbose_name = _("Deliveries")
    default_auto_field = "django.db.models.BigAutoField"
    rows_of_notifications: ClassVar[Mapping[str, str]] = {"notifications_deliveries.Delivery": "notification"}

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
    findings: ClassVar[Mapping[str, str]] = {
        "deliveries": "notifications.contrib.deliveries.findings.find_outages"
    }
    own_tasks: ClassVar[Mapping[str, OwnTask]] = {
        "notifications.contrib.deliveries.sending.deliver": OwnTask(is_silent=True),
        "notifications.contrib.deliveries.sending.deliver_digest": OwnTask(is_silent=True),
        # The others call templates and backends of the project.
        "notifications.contrib.deliveries.sending.deliver_async": OwnTask(is_silent=True, is_harmless=True),
    }

    def ready(self) -> None:
        from notifications.contrib.deliveries import checks  # noqa: F401  (the import registers them)

    def prepare(self) -> None:
        from notifications.contrib.deliveries.rules import load_rules

        load_rules()

    def before_created(self, rows: Sequence[Notification]) -> None:
        from notifications.contrib.deliveries.preferences import mark_muted

        mark_muted(rows)

    def on_created(self, rows: Sequence[Notification], tx: RecordedTransaction) -> Rows:
        from notifications.contrib.deliveries.rules import build_deliveries

        return build_deliveries(rows, tx.language_of)

    def read_deliver(self, value: Any) -> Any:
        from notifications.contrib.deliveries.rules import read_steps

        return read_steps(value)

    def before_raised(self, rows: Sequence[Notification], tx: RecordedTransaction) -> None:
        """Lock their deliveries: a process that decides one of them at this moment is waited for."""
        from notifications.contrib.deliveries.rules import lock_deliveries

        tx.kept[self.label] = lock_deliveries([row.id for row in rows])

    def on_raised(self, ids: Collection[UUID], tx: RecordedTransaction) -> None:
        """Decide anew those that were not sent because of how their notifications were."""
        from notifications.contrib.deliveries.rules import reopen_deliveries

        skipped = tx.kept.pop(self.label, ())
        assert tx.now is not None
        reopen_deliveries([row for row in skipped if row.notification in ids], tx.now)

    def duties(self, process: Upkeep) -> Iterable[Duty]:
        from notifications.contrib.deliveries import sending
        from notifications.upkeep import Duty, run_all

        start, enqueue = process.project_threads.start, partial(run_all, sending.enqueue_due)
        return [
            Duty(
                "enqueue deliveries",
                sending.INTERVAL_SECONDS,
                lambda: start(enqueue, "Could not enqueue deliveries"),
                is_for_each_process=True,
                condition=sending.due_condition,
            ),
            Duty("fail abandoned deliveries", sending.ORPHAN_CHECK_INTERVAL_SECONDS, sending.fail_orphaned),
        ]

    def events_of(self, subject: Job | Notification, reader: Any) -> Iterable[Event]:
        from notifications.contrib.deliveries.timeline import events_of_deliveries

        is_notification = subject._meta.label == "notifications.Notification"
        return events_of_deliveries(subject, for_user=reader is not None) if is_notification else ()

    def delete_of_users(self, keys: Sequence[Any]) -> int:
        from notifications.contrib.deliveries import models
        from notifications.streams.purging import delete_rows

        owned = (
            *(models.Delivery, models.Digest, models.Throttle),
            *(models.PushSubscription, models.Preference, models.Reader),
        )
        return next(filter(None, (delete_rows(model, "user_id", keys) for model in owned)), 0)

    def pruned(self) -> Sequence[Pruned]:
        from notifications.contrib.deliveries.models import Digest

        return [Pruned(Digest, "due_at", "digests")]

    def stored_times(self, now: datetime) -> Iterable[StoredTime]:
        from notifications.contrib.deliveries.findings import list_stored_times

        return list_stored_times(now)

    def time_zone_of(self, user: Any) -> str:
        from notifications.contrib.deliveries.preferences import read_reader

        return str(read_reader(user).time_zone)

    def page_links(self, page: str) -> Sequence[tuple[str, str]]:
        from notifications.contrib.deliveries.inbox_parts import list_links

        return list_links(page)

    def row_buttons(self, row: Notification) -> Sequence[PageButton]:
        from notifications.contrib.deliveries.inbox_parts import list_buttons

        return list_buttons(row)

    def describe_change(self, user: Any, change: str) -> tuple[str, PageButton] | None:
        from notifications.contrib.deliveries.inbox_parts import describe_muting

        return describe_muting(user, change)

    def admin_section(
        self, model_admin: ModelAdmin[Any], request: HttpRequest, row: Notification
    ) -> tuple[str, dict[str, Any]] | None:
        from notifications.contrib.deliveries.admin import describe_deliveries

        return describe_deliveries(model_admin, request, row)
