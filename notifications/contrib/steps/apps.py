"""Steps: calls inside a task whose results are stored, so that no later attempt makes them again.

api          ``step()`` and ``astep()``, by which a task makes such a call
models       the result of a step, and a call that has none
values       results as JSON, from which each value comes back as the type that it had
storage      stores the results of running jobs, many in one transaction, and which calls run; a part of the worker
listing      reads the steps of a job
testing      the stored results, for assertions
"""

from __future__ import annotations

from typing import ClassVar

from django.utils.translation import gettext_lazy as _

from notifications.extension import Extension, import_later


class Steps(Extension):
    name = "notifications.contrib.steps"
    label = "notifications_steps"
    verbose_name = _("Steps")
    tables: ClassVar[dict[str, str]] = {
        "notifications_steps.Step.job": "job",
        "notifications_steps.UnfinishedStep.job": "job",
    }

    worker_part = import_later("storage.make_worker_part")
    steps_of = import_later("listing.list_steps")
    on_change = import_later("storage.delete_repeated_steps")
