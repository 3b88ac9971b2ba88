"""What observed tasks add to the core."""

from __future__ import annotations

from typing import ClassVar

from notifications.engines.observed import checks  # noqa: F401  (the import registers the checks)
from notifications.extension import Extension


class ObservedTasks(Extension):
    """Makes jobs of tasks that workers of Celery run."""

    name = "notifications.engines.observed"
    label = "notifications_celery"
    findings: ClassVar[dict[str, str]] = {
        "celery": "notifications.management.diagnosis.observed_tasks.find_observed_tasks"
    }
