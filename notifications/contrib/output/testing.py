"""The output of jobs, to be read in assertions."""

from __future__ import annotations

from typing import Any


def output(job: Any) -> str:
    r"""Return the stored output of a job, as its readers get it.

    ``job`` is what ``enqueue`` returned, or an id::

        result = summarize.enqueue(report.pk)
        run_jobs()
        assert output(result) == "All links work.\n"
    """
    from notifications.contrib.output.models import OutputChunk
    from notifications.db import database

    chunks = OutputChunk.objects.using(database()).filter(job=getattr(job, "id", job))
    return "".join(chunks.order_by("start").values_list("text", flat=True))
