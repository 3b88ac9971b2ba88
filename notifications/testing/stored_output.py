"""The output of jobs: collect it inline, and read it in assertions."""

from __future__ import annotations

from typing import Any


def output(job: Any) -> str:
    r"""Return the stored output of a job, as its readers get it.

    ``job`` is what ``enqueue`` returned, or an id::

        result = summarize.enqueue(report.pk)
        run_jobs()
        assert output(result) == "All links work.\n"
    """
    from notifications.db.transactions import database
    from notifications.models import OutputChunk

    chunks = OutputChunk.objects.using(database()).filter(job=getattr(job, "id", job))
    return "".join(chunks.order_by("start").values_list("text", flat=True))


def collect_output(execution: Any, text: str) -> None:
    """Keep text of a job that runs inline, until it is stored with the end of its attempt."""
    from notifications.jobs.transitions.output_storage import buffer_of

    buffer_of(execution.job).append(text)
