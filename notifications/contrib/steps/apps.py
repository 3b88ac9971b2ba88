"""Steps: calls inside a task whose results are stored, so that no later attempt makes them again.

api          ``step()`` and ``astep()``, by which a task makes such a call
models       the result of a step
values       results as JSON, from which each value comes back as the type that it had
storage      stores the results of running jobs, many in one transaction
worker_part  collects the results of a worker's jobs for it
listing      the steps of a job, for the list of its steps and waits
testing      the stored results, for assertions
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.utils.translation import gettext_lazy as _

from notifications.extension import Extension

if TYPE_CHECKING:
    from notifications.contrib.steps.worker_part import InlineSteps, StepLoop
    from notifications.jobs.step_list import StoredStep
    from notifications.models import Job


class Steps(Extension):
    name = "notifications.contrib.steps"
    label = "notifications_steps"
    verbose_name = _("Steps")
    default_auto_field = "django.db.models.BigAutoField"

    def worker_part(self, state: Any) -> StepLoop | InlineSteps:
        from notifications.contrib.steps.worker_part import InlineSteps, StepLoop

        return StepLoop(state) if state else InlineSteps()

    def stored_names(self, job: UUID) -> Mapping[str, str]:
        from notifications.contrib.steps.storage import read_names

        return dict.fromkeys(read_names(job), "step")

    def steps_of(self, job: Job, limit: int, *, with_results: bool) -> tuple[Sequence[StoredStep], int]:
        from notifications.contrib.steps.listing import list_steps

        return list_steps(job, limit, with_results=with_results)

    def on_retried(self, ids: Sequence[UUID], *, from_start: bool) -> None:
        """Delete the results of steps that are made again."""
        from notifications.contrib.steps.storage import delete_steps

        if from_start:
            delete_steps(ids)

    def delete_of_jobs(self, ids: Sequence[UUID], limit: int) -> bool:
        from notifications.contrib.steps.models import Step
        from notifications.streams.purging import delete_rows

        return delete_rows(Step, "job", ids, limit) == limit
