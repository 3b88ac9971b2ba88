"""The output of a job on the pages that the core shows of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from notifications.extension import JobSection

if TYPE_CHECKING:
    from django.http import HttpRequest

    from notifications.models import Job

#: Bytes of the end of an output that the admin shows, and those of its last chunk.
MAX_ADMIN_BYTES = 20_000


class OutputSection(JobSection):
    """What a job has written: on its page with an element that appends what follows, else the end of it."""

    name = "output"
    page_template = "notifications/output.html"
    excerpt_template = "notifications/output_end.html"
    admin_template = "admin/notifications_output/section.html"

    def page_context(self, job: Job, request: HttpRequest) -> dict[str, Any]:
        from notifications.contrib.output.pages import read_output_text
        from notifications.contrib.output.reading import has_output

        if job.done and not has_output(job.id):
            return {}
        # {% notifications %} preloads the modules of the element.
        return {"output": read_output_text(request.user, job), "has_output": True}

    def excerpt_context(self, job: Job) -> dict[str, Any]:
        from notifications.contrib.output.pages import read_output_end

        return {"output": read_output_end(job.id)}

    def admin_context(self, job: Job, request: HttpRequest) -> dict[str, Any]:
        from notifications.contrib.output.reading import read_end

        if not request.user.has_perm("notifications.view_job_arguments"):
            return {}
        text, is_cut = read_end(job.pk, MAX_ADMIN_BYTES)
        return {"output": text, "is_output_cut": is_cut}
