"""Create notifications for ``notify()`` and send their signals.

The signals of jobs are sent where outcomes are recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError

from notifications.db import transactions
from notifications.db.transactions import connection
from notifications.jobs import host_code
from notifications.models import Notification
from notifications.signals import notification_recorded, notification_recording
from notifications.streams import inbox

logger = logging.getLogger("notifications.jobs")

T = TypeVar("T")

RECORDING, HOOK = "receiver of notification_recording", "on_commit hook"
#: Host code whose notifications send no signals, or a receiver that notifies would call itself without end.
SILENT_HOST_CODE = {RECORDING, "receiver of notification_recorded", HOOK}

#: Times that receivers may lose the transaction of one chunk before it is recorded without receivers.
MAX_LOSSES = 2


class RecordingTransactionLost(TransactionManagementError):
    """A receiver has ended or broken the transaction that it was called in."""


def notify(users: Any, title: Any, **fields: Any) -> list[UUID]:
    """Create notifications and send their signals. See ``notifications.api.notify``."""
    has_receivers = notification_recording.receivers or notification_recorded.receivers
    sends = has_receivers and host_code.current.get() not in SILENT_HOST_CODE
    return inbox.create_notifications(users, title, signals=NotifySignals() if sends else None, **fields)


class NotifySignals:
    """Sends the signals of one call of ``notify()``: see ``inbox.CreationSignals``.

    A receiver that raises undoes what receivers wrote for its notification, nothing else. A transaction of the app's
    own that a receiver loses is begun again, without the receivers at last. One of the caller's cannot be: then
    ``RecordingTransactionLost`` is raised, because Django would leave the caller's block without an error.
    """

    def __init__(self) -> None:
        self._losses = 0

    def record(self, write: Callable[[], T]) -> T:
        self._losses = 0
        while True:
            try:
                return write()
            except RecordingTransactionLost:
                self._losses += 1
                connection().close()

    def send_recording(self, rows: Sequence[Notification]) -> None:
        if not notification_recording.receivers:
            return
        if self._losses >= MAX_LOSSES:
            logger.error("Recorded without receivers of notification_recording: %d notifications", len(rows))
            return
        for row in rows:
            _call_receivers(row, connection())

    def send_recorded(self, rows: Sequence[Notification]) -> None:
        for row in rows:
            host_code.send(notification_recorded, "notification_recorded", Notification, notification=row)


def _call_receivers(row: Notification, db: BaseDatabaseWrapper) -> None:
    """Call the receivers of ``notification_recording`` for one row, inside a savepoint, until one raises."""
    hooks = len(db.run_on_commit)
    name = ""
    try:
        with transaction.atomic(using=db.alias):
            depth = len(db.atomic_blocks)
            for receiver in host_code.receivers_of(notification_recording, Notification):
                name = host_code.name_of(receiver)
                if not _call(receiver, name, row, db, depth):
                    transaction.set_rollback(True, using=db.alias)
                    break
    except BaseException as exc:
        # A statement that failed, and whose error the receiver caught, may have broken the savepoint only.
        if not isinstance(exc, DatabaseError) or db.needs_rollback or db.closed_in_transaction:
            raise _lost(name) from exc
        logger.error("Host code failed: %s %s, notification %s", RECORDING, name, row.id, exc_info=exc)
    if db.needs_rollback or db.closed_in_transaction:
        raise _lost(name)
    for position, (sids, hook, _) in enumerate(db.run_on_commit[hooks:], hooks):
        if getattr(hook, "__module__", "") != transactions.__name__:  # those are the app's own
            db.run_on_commit[position] = (sids, lambda hook=hook: host_code.call(HOOK, hook), True)


def _call(
    receiver: Callable[..., Any], name: str, row: Notification, db: BaseDatabaseWrapper, depth: int
) -> bool:
    """Call one receiver; return whether what it has written can be kept."""
    try:
        with host_code.restored_connections(RECORDING, name, db):
            receiver(signal=notification_recording, sender=Notification, notification=row, job=None)
    except BaseException:
        logger.exception("Host code failed: %s %s, notification %s", RECORDING, name, row.id)
        return False
    if not host_code.roll_back_to(db, depth):
        logger.error("Host code left a transaction open, which is rolled back: %s %s", RECORDING, name)
        return False
    return True


def _lost(name: str) -> RecordingTransactionLost:
    logger.error("Host code lost the transaction: %s %s", RECORDING, name)
    return RecordingTransactionLost(
        f"{name} has ended or broken the transaction in which notification_recording was sent. "
        "A receiver must neither close the connection nor roll back."
    )
