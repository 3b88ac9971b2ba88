"""What broadcasts add to the core."""

from __future__ import annotations

from notifications.broadcasts import checks  # noqa: F401  (the import registers the checks)
from notifications.extension import Extension


class Broadcasts(Extension):
    """Sends notifications to many users."""

    name = "notifications.broadcasts"
    label = "notifications_broadcasts"
