"""Create notifications for ``notify()``, with the jobs of handlers and webhooks, and send their signals.

Those of the ends of jobs are in ``transitions/recording.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from notifications.db import project_code
from notifications.jobs.handlers import events
from notifications.jobs.handlers.declarations import NOTIFICATION_CREATED, load_handlers
from notifications.models import Notification
from notifications.signals import notification_recorded
from notifications.streams import inbox
from notifications.tracing import spans

#: A receiver that notifies would call itself without end.
SILENT_HOST_CODE = "receiver of notification_recorded"


def notify(users: Any, title: Any, **fields: Any) -> list[UUID]:
    """Create notifications and send their signals. See ``notifications.api.notify``."""
    if spans.tracer is None:
        return inbox.create_notifications(users, title, events=creation_events(), **fields)
    with spans.notifying() as span:
        ids = inbox.create_notifications(users, title, events=creation_events(), **fields)
        spans.set_notifications(span, ids)
    return ids


def creation_events() -> NotifyEvents | None:
    """Return what follows from notifications that are created now, None if nothing does.

    Called before the transaction, because it may import the handlers.
    """
    has_receivers = bool(notification_recorded.receivers) and project_code.current.get() != SILENT_HOST_CODE
    handlers = load_handlers()
    raises_events = bool(handlers.webhook or handlers.by_event.get(NOTIFICATION_CREATED)) and (
        events.may_raise_events()
    )
    return NotifyEvents(has_receivers, raises_events) if has_receivers or raises_events else None


class NotifyEvents:
    """See ``inbox.CreationEvents``."""

    def __init__(self, has_receivers: bool, raises_events: bool) -> None:
        self._has_receivers, self._raises_events = has_receivers, raises_events
        self.jobs_per_notification = events.count_jobs_per_notification() if raises_events else 0

    def insert_jobs(self, rows: Sequence[Notification]) -> None:
        if self._raises_events:
            jobs = events.build_jobs_for_notifications(rows)
            events.insert_jobs(jobs)
            events.wake_workers(jobs)

    def send_recorded(self, rows: Sequence[Notification]) -> None:
        for row in rows if self._has_receivers else ():
            project_code.send(notification_recorded, "notification_recorded", Notification, notification=row)
