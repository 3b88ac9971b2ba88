"""What deliveries and preferences add to the core: to the creation of notifications, and duties."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

from notifications.deliveries import checks, sending  # noqa: F401  (the import registers the checks)
from notifications.extension import Extension, OwnTask, Pruned, RecordedTransaction, Rows
from notifications.models import (
    Delivery,
    Digest,
    EmailThrottle,
    Notification,
    Preference,
    PushSubscription,
    Reader,
)
from notifications.streams.deliveries import build_deliveries, load_rules
from notifications.streams.preferences import mark_muted
from notifications.streams.purging import delete_rows
from notifications.upkeep import Duty, Upkeep, run_all


class Deliveries(Extension):
    """Marks notifications of muted categories as read, inserts the deliveries of notifications, and sends them."""

    name = "notifications.deliveries"
    label = "notifications_deliveries"
    subcommands: ClassVar[dict[str, str]] = {
        "explain": "notifications.management.subcommands.explain.ExplainCommand",
        "vapid": "notifications.management.subcommands.vapid.VapidCommand",
    }
    findings: ClassVar[dict[str, str]] = {"e-mail": "notifications.management.diagnosis.emails.find_email"}

    own_tasks: ClassVar[dict[str, OwnTask]] = {
        "notifications.deliveries.sending.deliver": OwnTask(is_silent=True),
        "notifications.deliveries.sending.deliver_digest": OwnTask(is_silent=True),
        # Those of e-mails call templates and backends of the project.
        "notifications.deliveries.sending.deliver_push": OwnTask(is_silent=True, is_harmless=True),
    }

    def prepare(self) -> None:
        load_rules()

    def before_created(self, rows: Sequence[Notification]) -> None:
        mark_muted(rows)

    def on_created(self, rows: Sequence[Notification], tx: RecordedTransaction) -> Rows:
        return build_deliveries(rows, tx.language_of)

    def delete_of_notifications(self, ids: Sequence[UUID], limit: int) -> bool:
        return delete_rows(Delivery, "notification", ids, limit) == limit

    def delete_of_users(self, keys: Sequence[Any]) -> int:
        models = (Delivery, Digest, EmailThrottle, PushSubscription, Preference, Reader)
        return next(filter(None, (delete_rows(model, "user_id", keys) for model in models)), 0)

    def pruned(self) -> Sequence[Pruned]:
        return [Pruned(Digest, "due_at", "digests")]

    def duties(self, process: Upkeep) -> Iterable[Duty]:
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
