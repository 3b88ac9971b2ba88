"""Django's Tasks: in Django itself from 6.0 on, in the package ``django-tasks`` on 5.2."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import django

if TYPE_CHECKING or django.VERSION >= (6, 0):  # type checkers read the first branch only
    from django.tasks import (
        DEFAULT_TASK_BACKEND_ALIAS,
        TaskContext,
        TaskResult,
        TaskResultStatus,
        signals,
        task,
        task_backends,
    )
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import Task, TaskError
    from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
    from django.utils.json import normalize_json
else:
    try:
        import django_tasks  # noqa: F401
    except ImportError as exc:
        from django.core.exceptions import ImproperlyConfigured

        raise ImproperlyConfigured(
            "Django 5.2 has no Tasks of its own. "
            'Install the package django-tasks: pip install "asyncsite-notifications[django52]".'
        ) from exc
    from django_tasks import (
        DEFAULT_TASK_BACKEND_ALIAS,
        TaskContext,
        TaskResult,
        TaskResultStatus,
        signals,
        task,
        task_backends,
    )
    from django_tasks.backends.base import BaseTaskBackend
    from django_tasks.base import Task, TaskError
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
    from django_tasks.exceptions import TaskResultDoesNotExist
    from django_tasks.signals import task_enqueued, task_finished, task_started
    from django_tasks.utils import normalize_json

__all__ = [
    "DEFAULT_TASK_BACKEND_ALIAS",
    "BaseTaskBackend",
    "InvalidTask",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskResult",
    "TaskResultDoesNotExist",
    "TaskResultStatus",
    "is_heard",
    "normalize_json",
    "task",
    "task_backends",
    "task_enqueued",
    "task_finished",
    "task_started",
]

#: Django's own receivers, by the keys under which signals keep them. They only write a line into a log.
_LOGGING = {id(signals.log_task_enqueued), id(signals.log_task_started), id(signals.log_task_finished)}


def is_heard(signal: Any, level: int = logging.INFO) -> bool:
    """Whether anybody wants a signal of Django's Tasks: to make a TaskResult for nobody would be half of a small job.

    ``level`` is that of Django's own line in the log.
    """
    others = any(key[0] not in _LOGGING for key, *_ in signal.receivers)
    return others or signals.logger.isEnabledFor(level)
