"""Pages of operators, and what they add to the lists of jobs and notifications."""

from notifications.contrib.operations.admin.alerts import AlertAdmin
from notifications.contrib.operations.admin.overview.page import OverviewAdmin

__all__ = ["AlertAdmin", "OverviewAdmin"]
