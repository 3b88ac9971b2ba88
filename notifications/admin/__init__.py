"""The app's pages in Django's admin, a module for each model."""

from notifications.admin.jobs import JobAdmin
from notifications.admin.notifications import NotificationAdmin

__all__ = [
    "JobAdmin",
    "NotificationAdmin",
]
