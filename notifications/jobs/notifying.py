"""Create notifications for ``notify()`` and send their signals.

The signals of jobs are sent where outcomes are recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from django.db.transaction import TransactionManagementError

from notifications.db.transactions import connection
from notifications.jobs import host_code, spans
from notifications.jobs.recording_receivers import (
    HOOK,
    MAX_LOSSES,
    RECORDING,
    RecordingReceivers,
    TransactionLost,
)
from notifications.models import Notification
from notifications.signals import notification_recorded, notification_recording
from notifications.streams import inbox

logger = logging.getLogger("notifications.jobs")

T = TypeVar("T")

#: Host code whose notifications send no signals, or a receiver that notifies would call itself without end.
SILENT_HOST_CODE = {RECORDING, "receiver of notification_recorded", HOOK}


def notify(users: Any, title: Any, **fields: Any) -> list[UUID]:
    """Create notifications and send their signals. See ``notifications.api.notify``."""
    if spans.tracer is None:
        return inbox.create_notifications(users, title, signals=creation_signals(), **fields)
    with spans.notifying() as span:
        ids = inbox.create_notifications(users, title, signals=creation_signals(), **fields)
        spans.set_notifications(span, ids)
    return ids


def creation_signals() -> NotifySignals | None:
    """Return what sends the signals of notifications that are created now, None if none are to be sent."""
    has_receivers = notification_recording.receivers or notification_recorded.receivers
    sends = has_receivers and host_code.current.get() not in SILENT_HOST_CODE
    return NotifySignals() if sends else None


class NotifySignals:
    """Sends the signals of one call of ``notify()``: see ``inbox.CreationSignals``.

    A receiver that raises undoes what receivers wrote for its notification, nothing else. A transaction of the app's
    own that a receiver loses is begun again, without the receivers at last. One of the caller's cannot be: then
    ``TransactionManagementError`` is raised, because Django would leave the caller's block without an error.
    """

    def __init__(self) -> None:
        self._losses = 0
        #: Whether the transaction is the app's own, which ``record`` begins again.
        self._is_own = False

    def record(self, write: Callable[[], T]) -> T:
        self._losses, self._is_own = 0, True
        while True:
            try:
                return write()
            except TransactionLost:
                self._losses += 1
                connection().close()

    def send_recording(self, rows: Sequence[Notification]) -> None:
        if not notification_recording.receivers:
            return
        if self._losses >= MAX_LOSSES:
            logger.error("Recorded without receivers of notification_recording: %d notifications", len(rows))
            return
        for row in rows:
            receivers = _NotifyReceivers(row, f"notification {row.id}", Notification)
            try:
                receivers.call(connection())
            except TransactionLost as exc:
                if self._is_own:
                    raise
                raise TransactionManagementError(str(exc)) from exc

    def send_recorded(self, rows: Sequence[Notification]) -> None:
        for row in rows:
            host_code.send(notification_recorded, "notification_recorded", Notification, notification=row)


class _NotifyReceivers(RecordingReceivers):
    def lost(self, name: str) -> TransactionLost:
        super().lost(name)
        return TransactionLost(
            f"{name} has ended or broken the transaction in which notification_recording was sent. "
            "A receiver must neither close the connection nor roll back."
        )
