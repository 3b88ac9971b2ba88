"""Call the receivers of ``notification_recording``, the project's code inside the transaction that records a row.

If a receiver raises, what receivers wrote for the notification is rolled back, and nothing else. If it ends or breaks
the transaction, ``TransactionLost`` is raised: the caller records the rows again, after ``MAX_LOSSES`` without
receivers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from notifications.db import transactions
from notifications.jobs import host_code
from notifications.models import Notification
from notifications.signals import notification_recording

logger = logging.getLogger("notifications.jobs")

#: Roles of host code: see ``host_code.current``.
RECORDING, HOOK = "receiver of notification_recording", "on_commit hook"
#: Times that receivers may lose the transaction of one write. A restart of the database server may be the cause of one.
MAX_LOSSES = 2


class TransactionLost(Exception):
    """A receiver ended, broke or held up the transaction that it was called in, which is rolled back.

    ``is_abandoned``
        The receiver's thread was replaced, and the result of the call on it is not used.
    ``is_callers``
        The transaction also had writes of a caller, so it cannot be begun again here.
    """

    is_abandoned = False
    is_callers = False


class RecordingReceivers:
    """The receivers for one notification.

    ``subject``
        What the log names: ``"job 0198…"`` for example.
    ``sender``, ``job``
        Arguments of the signal.
    """

    def __init__(self, notification: Notification | None, subject: str, sender: Any, job: Any = None) -> None:
        self.subject = subject
        self._notification = notification
        self._sender = sender
        self._job = job

    def call(self, db: BaseDatabaseWrapper) -> None:
        """Call the receivers inside a savepoint, which is rolled back if one raises. Raises ``TransactionLost``."""
        hooks = len(db.run_on_commit)
        name = ""
        try:
            with transaction.atomic(using=db.alias):
                depth = len(db.atomic_blocks)
                for receiver in host_code.receivers_of(notification_recording, self._sender):
                    name = host_code.name_of(receiver)
                    if self.may_call(name) and not self._call_one(receiver, name, db, depth):
                        transaction.set_rollback(True, using=db.alias)
                        break
        except BaseException as exc:
            # A failed statement whose error the receiver caught may have broken only the savepoint.
            if not isinstance(exc, DatabaseError) or db.needs_rollback or db.closed_in_transaction:
                raise self.lost(name) from exc
            logger.error("Host code failed: %s %s, %s", RECORDING, name, self.subject, exc_info=exc)
        if db.needs_rollback or db.closed_in_transaction:
            raise self.lost(name)
        for position, (sids, hook, _) in enumerate(db.run_on_commit[hooks:], hooks):
            # Hooks of the app itself stay as they are.
            if getattr(hook, "__module__", "") != transactions.__name__:
                db.run_on_commit[position] = (sids, self.guard_hook(hook), True)

    def may_call(self, name: str) -> bool:
        """Return whether a receiver is called."""
        return True

    def limit_time(self, name: str) -> AbstractContextManager[None]:
        """Return a context manager in which a receiver is called."""
        return nullcontext()

    def has_timed_out(self) -> bool:
        """Return whether a receiver has exceeded its time, so that the transaction is rolled back already."""
        return False

    def lost(self, name: str) -> TransactionLost:
        """Log that a receiver has lost the transaction, and return the error."""
        logger.error("Host code lost the transaction: %s %s, %s", RECORDING, name, self.subject)
        return TransactionLost(f"{name} lost the transaction of {self.subject}.")

    def guard_hook(self, hook: Callable[[], object]) -> Callable[[], None]:
        """Return a commit hook that calls the ``hook`` of a receiver; its errors are logged."""

        def call() -> None:
            host_code.call(HOOK, hook)

        return call

    def _call_one(self, receiver: Callable[..., Any], name: str, db: BaseDatabaseWrapper, depth: int) -> bool:
        """Call one receiver; return whether what it wrote can be kept."""
        try:
            with self.limit_time(name), host_code.restored_connections(RECORDING, name, db):
                receiver(
                    signal=notification_recording,
                    sender=self._sender,
                    notification=self._notification,
                    job=self._job,
                )
        except BaseException:
            logger.exception("Host code failed: %s %s, %s", RECORDING, name, self.subject)
            return False
        if not host_code.roll_back_to(db, depth):
            logger.error("Host code left a transaction open, which is rolled back: %s %s", RECORDING, name)
            return False
        return not self.has_timed_out()
