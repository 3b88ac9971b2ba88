"""Utilities for tests of projects that use the app.

This module may be imported before the models are ready. ``notifications.pytest_plugin`` offers the same as fixtures.
"""

# Modules:
#
# inline  runs jobs on the calling thread, with a clock that tests advance
# client  a client of the WebSocket in memory

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from notifications.extension import hooks
from notifications.testing.client import Client, connect
from notifications.testing.inline import Clock, clock, run_jobs, run_until_idle

if TYPE_CHECKING:
    from notifications.models import Notification

__all__ = [
    "Client",
    "Clock",
    "capture_notifications",
    "clock",
    "connect",
    "run_jobs",
    "run_until_idle",
]


@contextmanager
def capture_notifications(user: Any = None) -> Iterator[list[Notification]]:
    """Yield a list that holds, from the end of the block on, the notifications recorded inside it, oldest first.

    ``user``
        A user or primary key, to capture only that user's notifications; by default those of all users.

    ::

        with capture_notifications(user) as notifications:
            client.post("/reports/", …)
            run_jobs()
        assert [notification.title for notification in notifications] == ["Report ready"]
    """
    from notifications.db.adapters import user_keys_of
    from notifications.db.transactions import database
    from notifications.models import Notification

    rows = Notification.objects.using(database()).order_by("id")
    if user is not None:
        rows = rows.filter(user__in=user_keys_of(user))
    existing = set(rows.values_list("id", flat=True))
    notifications: list[Notification] = []
    yield notifications
    notifications += [row for row in rows if row.id not in existing]


def __getattr__(name: str) -> Any:
    """Return a name of the module ``testing`` of an installed app, such as ``answer_question``."""
    for module in hooks.find_modules("testing").values():
        if name in vars(module):
            return vars(module)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}, nor has one of an installed app.")
