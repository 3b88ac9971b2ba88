"""What deliveries and preferences add to the creation of notifications."""

from __future__ import annotations

from collections.abc import Sequence

from notifications.extension import Extension, RecordedTransaction, Rows
from notifications.models import Notification
from notifications.streams.deliveries import build_deliveries, load_rules
from notifications.streams.preferences import mark_muted


class Deliveries(Extension):
    """Marks notifications of muted categories as read, and inserts the deliveries of notifications."""

    name = "notifications.deliveries"
    label = "notifications_deliveries"

    def prepare(self) -> None:
        load_rules()

    def before_created(self, rows: Sequence[Notification]) -> None:
        mark_muted(rows)

    def on_created(self, rows: Sequence[Notification], tx: RecordedTransaction) -> Rows:
        return build_deliveries(rows, tx.language_of)
