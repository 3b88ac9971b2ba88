"""Output: jobs write text while they run, which pages and programs show as it is written.

api          ``output()``, by which a task writes
models       a chunk of the output of a job
storage      what an execution has written and is not stored yet; stores it in chunks
reading      reads the output of jobs, in parts
urls, views  the output of a job over HTTP: what there is, long polls and Server-Sent Events
pages        what pages show of it: that of a job, its page in the admin, that of a question, and those of the project
commands     ``jobs output``
testing      the stored output, for assertions
"""

from __future__ import annotations

from typing import ClassVar

from django.utils.translation import gettext_lazy as _

from notifications.extension import Extension, JobSection, import_later


class OutputSection(JobSection):
    """What a job has written: on its page with an element that appends what follows, else the end of it."""

    name = "output"
    page_template = "notifications/output.html"
    excerpt_template = "notifications/output_end.html"
    admin_template = "admin/notifications_output/section.html"

    page_context = import_later("pages.describe_for_page")
    excerpt_context = import_later("pages.describe_end")
    message_fact = import_later("pages.describe_last_lines")
    admin_context = import_later("pages.describe_for_admin")


class Output(Extension):
    name = "notifications.contrib.output"
    label = "notifications_output"
    verbose_name = _("Output")
    tables: ClassVar[dict[str, str]] = {"notifications_output.OutputChunk.job": "job"}

    job_sections = (OutputSection(),)
    subcommands: ClassVar[dict[str, str]] = {
        "jobs output": "notifications.contrib.output.commands.OutputCommand",
    }

    worker_part = import_later("storage.make_worker_part")
    events_of = import_later("pages.describe_span")
    on_attempts = import_later("storage.read_last_output")
    keep_for_later = import_later("storage.keep_last_output")
    after_commit = import_later("storage.drop_stored")
