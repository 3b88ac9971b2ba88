"""Files: what a task makes is stored with the outcome of its job, and its owner downloads it.

api             ``result_file()`` and ``add_file()``, by which a task makes a file
declarations    reads and validates ``NOTIFICATIONS["FILES"]``
models          the files of finished jobs, and every object that may be in the storage
storing         writes a file into the storage; the hook that stores it with the outcome
removing        a duty that removes objects from the storage that have no file any more
sending         the response to a download: ranges, headers, and who sends the bytes
urls, views     a download, and the page *My files*
pages           what the page of a job, ``jobs show`` and the notification of its end show
checks
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.utils.translation import gettext_lazy as _

from notifications.extension import Extension, JobSection, Setting, import_later


class FilesSection(JobSection):
    """The files that a job has made, each a link to its download."""

    name = "files"
    page_template = "notifications/job_files.html"
    admin_template = "admin/notifications_files/section.html"

    page_context = import_later("pages.describe_for_page")
    admin_context = import_later("pages.describe_for_admin")
    lines = import_later("pages.describe_in_lines")
    item = import_later("pages.describe_as_json")


class Files(Extension):
    name = "notifications.contrib.files"
    label = "notifications_files"
    verbose_name = _("Files")
    settings: ClassVar[Mapping[str, Setting]] = {"FILES": Setting({})}
    #: The objects are not deleted with jobs and users: a duty removes them from the storage first.
    tables: ClassVar[Mapping[str, str]] = {
        "notifications_files.ResultFile.job": "job",
        "notifications_files.ResultFile.user_id": "user",
    }
    job_sections = (FilesSection(),)

    duties = import_later("removing.list_duties")
    worker_part = import_later("storing.make_worker_part")
    on_ends = import_later("storing.make_files")
    on_change = import_later("storing.forget_steps")
    page_links = import_later("pages.list_links")

    def ready(self) -> None:
        from notifications.contrib.files import checks  # noqa: F401  (the import registers it)
