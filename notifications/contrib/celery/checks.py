"""Compare ``NOTIFICATIONS["CELERY"]["tasks"]`` with the tasks that Celery knows: in a system check, and in workers."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from celery import current_app
from django.apps import apps
from django.core.checks import CheckMessage, Warning, register

from notifications.contrib.celery import observations
from notifications.contrib.celery.declarations import find_wrong_argument, find_wrong_declarations

logger = logging.getLogger("notifications.jobs")


@register("notifications")
def check_observed_tasks(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W010: an option of an observed task is wrong, or names something that is no argument of the task."""
    problems: dict[str, str] = {}
    tasks = observations.configured_tasks()
    for name, options in tasks.items():
        try:
            observations.from_options(options)
        except TypeError as exc:
            problems[name] = str(exc)
    if tasks:
        import_task_modules()
        problems |= find_wrong_arguments()
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
        for name, problem in find_wrong_declarations().items()
    ]


@register("notifications")
def check_installed(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W004: tasks are observed, but the app is not installed."""
    if apps.is_installed("notifications.contrib.celery"):
        return []
    return [
        Warning(
            "notifications.contrib.celery is imported, but it is not installed: a cancelled job does not stop its "
            "task, and options of observed tasks are not known everywhere.",
            hint='Add "notifications.contrib.celery" to INSTALLED_APPS, and run manage.py migrate.',
            id="notifications.W004",
        )
    ]


def import_task_modules() -> None:
    """Import the modules of the tasks that the settings name in full, if they are named after their modules."""
    for name in observations.configured_tasks():
        module = str(name).rpartition(".")[0]
        if module and "*" not in module:
            # A task may have any name, and a module that cannot be imported is reported by those who need it.
            with suppress(Exception):
                importlib.import_module(module)


def find_wrong_arguments() -> dict[str, str]:
    """Return what is wrong where an option names something that is no argument of its task, by name or pattern."""
    with suppress(RuntimeError):  # an app with autofinalize=False that is not ready
        current_app.finalize(auto=True)
    tasks = observations.configured_tasks()
    found: dict[str, str] = {}
    for name, task in sorted(current_app._tasks.items()):
        key = observations.configured_key(name)
        if key is not None and key not in found and (problem := _wrong_argument(tasks[key], task)):
            found[key] = problem
    return found


def log_problems(known: Iterable[str]) -> None:
    """Log the names in the settings that match none of a worker's tasks, and options that name no argument."""
    find_wrong_declarations()  # logs them
    used = {observations.configured_key(name) for name in known}
    for name in observations.configured_tasks():
        if name not in used:
            logger.error("NOTIFICATIONS['CELERY'] names a task that this worker does not know: %s", name)
    for name, problem in find_wrong_arguments().items():
        logger.error("NOTIFICATIONS['CELERY']['tasks'][%r]: %s", name, problem)


def _wrong_argument(options: Any, task: Any) -> str:
    try:
        observation = observations.from_options(options)
    except TypeError:  # which the system check reports
        return ""
    return find_wrong_argument(observation, task)
