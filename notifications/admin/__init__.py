"""The app's pages in Django's admin. Optional apps register theirs in their folders, and extend these (`extend()`).

jobs                       the list and the page of jobs
job_details                what the page of a job shows
job_actions, confirmation  cancel, retry and reschedule, with the page that asks before
running_again, arguments_form  runs a job again with other arguments, and the form that asks for them
live_jobs                  what open pages request again while jobs are active
notifications              the list and the page of notifications
mixins, paging, filters    what all lists share: read-only, keyset pages, filters
timelines                  how pages show times, events and attempts
"""

from notifications.admin.arguments_form import ArgumentsForm as ArgumentsForm
from notifications.admin.filters import ListFilter as ListFilter
from notifications.admin.jobs import JobAdmin as JobAdmin
from notifications.admin.mixins import ModelAdminBase as ModelAdminBase
from notifications.admin.mixins import ReadOnlyMixin as ReadOnlyMixin
from notifications.admin.mixins import add_filters as add_filters
from notifications.admin.mixins import extend as extend
from notifications.admin.mixins import list_url as list_url
from notifications.admin.mixins import page_context as page_context
from notifications.admin.notifications import NotificationAdmin as NotificationAdmin
from notifications.admin.paging import OwnedMixin as OwnedMixin
from notifications.lazy_names import LateModule as LateModule
