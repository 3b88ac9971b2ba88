"""The app's pages in Django's admin, a module for each model."""

from notifications.admin.jobs import JobAdmin
from notifications.admin.notifications import NotificationAdmin
from notifications.contrib.operations.admin.alerts import AlertAdmin
from notifications.contrib.operations.admin.overview.page import OverviewAdmin

__all__ = [
    "AlertAdmin",
    "JobAdmin",
    "NotificationAdmin",
    "OverviewAdmin",
]
