"""What differs between versions of Django, or is private to it.

The Tasks API is part of Django from 6.0 on, and of the package ``django-tasks`` on 5.2.
"""

from __future__ import annotations

import logging
import sys
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
            "Django 5.2 does not include Tasks. "
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
    "normalize_json",
    "should_send",
    "task",
    "task_backends",
    "task_enqueued",
    "task_finished",
    "task_started",
]

#: Django's own receivers, by the ids by which signals keep them. They only write to the log.
_LOG_RECEIVERS = {id(signals.log_task_enqueued), id(signals.log_task_started), id(signals.log_task_finished)}


def should_send(signal: Any, level: int = logging.INFO) -> bool:
    """Return whether a signal of Django's Tasks has receivers, or Django logs it at ``level``.

    Otherwise sending it is skipped: making the TaskResult takes half of the time of a small job.
    """
    has_receivers = any(key[0] not in _LOG_RECEIVERS for key, *_ in signal.receivers)
    return has_receivers or signals.logger.isEnabledFor(level)


def is_test_runner() -> bool:
    """Return whether this process runs tests with Django or pytest."""
    from django.test.utils import _TestState

    return hasattr(_TestState, "saved_data") or "pytest" in sys.modules
