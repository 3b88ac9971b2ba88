"""System checks of the tasks of Celery that are observed."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Warning, register

from notifications.contrib.celery import configured_tasks, declarations
from notifications.jobs.declaring import observations


@register("notifications")
def check_observed_tasks(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W010: an option of an observed task names something that is no argument of it."""
    problems: dict[str, str] = {}
    if observations.configured_tasks():
        configured_tasks.import_task_modules()
        problems = configured_tasks.find_wrong_arguments()
    found: list[CheckMessage] = [
        Warning(
            f"NOTIFICATIONS['CELERY']['tasks'][{name!r}]: {problem}",
            hint='Write {"shop.tasks.export": {"title": "Export {year}", "owner": "user_id"}}.',
            id="notifications.W010",
        )
        for name, problem in problems.items()
    ]
    return found + [
        Warning(
            f"@observed of Celery task {name}: {problem}",
            hint='Write @observed(title="Export {year}", owner="user_id").',
            id="notifications.W010",
        )
        for name, problem in declarations.find_wrong_declarations().items()
    ]
