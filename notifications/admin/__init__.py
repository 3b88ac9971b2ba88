"""The app's pages in Django's admin, a module for each model."""

from notifications.admin.alerts import AlertAdmin
from notifications.admin.jobs import JobAdmin
from notifications.admin.notifications import NotificationAdmin
from notifications.admin.overview.page import OverviewAdmin

__all__ = [
    "AlertAdmin",
    "JobAdmin",
    "NotificationAdmin",
    "OverviewAdmin",
]
