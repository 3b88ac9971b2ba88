"""The app's pages in Django's admin. Optional apps register theirs in their folders, and extend these (`extend()`).

jobs                       the list and the page of jobs
job_details                what the page of a job shows
job_actions, confirmation  cancel, retry and reschedule, with the page that asks before
live_jobs                  what open pages request again while jobs are active
notifications              the list and the page of notifications
mixins, paging, filters    what all lists share: read-only, keyset pages, filters
timelines                  how pages show times, events and attempts
"""

from notifications.admin.jobs import JobAdmin
from notifications.admin.mixins import ModelAdminBase, add_filters, extend
from notifications.admin.notifications import NotificationAdmin

__all__ = [
    "JobAdmin",
    "ModelAdminBase",
    "NotificationAdmin",
    "add_filters",
    "extend",
]
