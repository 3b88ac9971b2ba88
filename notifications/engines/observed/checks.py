"""System checks of observed tasks."""

from __future__ import annotations

import sys
from typing import Any

from django.core.checks import CheckMessage, Warning, register

from notifications.jobs.declaring import observations


@register("notifications")
def check_celery(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W010: options of observed tasks of Celery. W004: the module that observes them, which has checks too."""
    tasks = observations.configured_tasks()
    problems: dict[str, str] = {}
    for name, options in tasks.items():
        try:
            observations.from_options(options)
        except TypeError as exc:
            problems[name] = str(exc)
    found: list[CheckMessage] = [
        Warning(
            f"NOTIFICATIONS['CELERY']['tasks'][{name!r}]: {problem}",
            hint='Write {"shop.tasks.export": {"title": "Export {year}", "owner": "user_id"}}.',
            id="notifications.W010",
        )
        for name, problem in problems.items()
    ]
    if tasks and "notifications.contrib.celery" not in sys.modules:
        found.append(
            Warning(
                "NOTIFICATIONS['CELERY'] names tasks, but notifications.contrib.celery is not imported: none is "
                "observed.",
                hint="Write `import notifications.contrib.celery` in the project's celery.py, and import that in the "
                "project's __init__.py.",
                id="notifications.W004",
            )
        )
    return found
