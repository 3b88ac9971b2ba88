"""Pages of operators, and what they add to the lists of jobs and notifications.

overview/             the overview
alerts                the list of alerts
filters, job_filters  filters beside the lists
bulk_changes          changes of many jobs: the page that asks before, and the job that makes them
"""

from notifications.contrib.operations.admin.alerts import AlertAdmin
from notifications.contrib.operations.admin.job_filters import WithFilters, WithNotificationFilters
from notifications.contrib.operations.admin.overview.page import OverviewAdmin

__all__ = ["AlertAdmin", "OverviewAdmin", "WithFilters", "WithNotificationFilters"]
