"""Output: jobs write text while they run, which pages and programs show as it is written.

api          ``output()``, by which a task writes
models       a chunk of the output of a job
storage      what an execution has written and is not stored yet; stores it in chunks
worker_part  stores the output of a worker's jobs in groups
reading      reads the output of jobs, in parts
feeds        the outputs that clients of a server follow: each is read once for all of them
readers      one client that follows an output, by a long poll or by Server-Sent Events
views        the output of a job over HTTP
pages        the output as a page shows it
sections     what the page of a job, its page in the admin and the page of a question show of it
commands     ``jobs output``
testing      the stored output, for assertions
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.utils.translation import gettext_lazy as _

from notifications.contrib.output.sections import OutputSection
from notifications.extension import Extension, RecordedTransaction, Rows

if TYPE_CHECKING:
    from notifications.contrib.output.feeds import OutputFeeds
    from notifications.contrib.output.worker_part import InlineOutput, OutputLoop
    from notifications.jobs.outcomes import Outcome
    from notifications.realtime.hub import Hub


class Output(Extension):
    name = "notifications.contrib.output"
    label = "notifications_output"
    verbose_name = _("Output")
    default_auto_field = "django.db.models.BigAutoField"

    job_sections = (OutputSection(),)
    subcommands: ClassVar[dict[str, str]] = {
        "jobs output": "notifications.contrib.output.commands.OutputCommand",
    }

    def worker_part(self, state: Any) -> OutputLoop | InlineOutput:
        from notifications.contrib.output.worker_part import InlineOutput, OutputLoop

        return OutputLoop(state) if state else InlineOutput()

    def hub_part(self, hub: Hub) -> OutputFeeds:
        from notifications.contrib.output.feeds import OutputFeeds

        return OutputFeeds(hub.loop, hub.query_pool)

    def on_attempts(self, outcomes: Sequence[Outcome], tx: RecordedTransaction) -> Rows:
        """Store the last output of each attempt with its outcome."""
        from notifications.contrib.output.storage import read_last_output

        assert tx.now is not None
        stored = read_last_output((outcome.job for outcome in outcomes), tx.now)
        if stored:
            tx.kept[self.label] = stored
        return [chunk for _, chunks in stored for chunk in chunks]

    def after_commit(self, kept: Any) -> None:
        from notifications.contrib.output.storage import drop_stored

        drop_stored(kept)

    def delete_of_jobs(self, ids: Sequence[UUID], limit: int) -> bool:
        from notifications.contrib.output.models import OutputChunk
        from notifications.streams.purging import delete_rows

        return delete_rows(OutputChunk, "job", ids, limit) == limit
