"""Pages on which staff write a notification to many users, follow how it is sent, and withdraw it."""

from notifications.contrib.broadcasts.admin.page import BroadcastAdmin

__all__ = ["BroadcastAdmin"]
