"""What differs between versions of Django or is private to it, and the package that has the same name as this one.

The Tasks API is part of Django from 6.0 on, and of the package ``django-tasks`` on 5.2.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
from django.core.exceptions import ImproperlyConfigured

# django-notifications-hq has the same import name: pip writes the files of both into one folder, where each has some of
# the other's modules. Its first migration, which this app never has, shows that, whichever was installed last.
if (Path(__file__).parent / "migrations/0001_initial.py").exists():
    raise ImproperlyConfigured(
        "django-notifications-hq and asyncsite-notifications are both installed. Both are imported as 'notifications', "
        "so that pip has mixed their files in one folder. Uninstall both, then install the one in use:\n"
        "    pip uninstall --yes django-notifications-hq asyncsite-notifications\n"
        '    pip install "asyncsite-notifications[daphne]"\n'
        "If django-notifications-hq was removed before, its files may have stayed: the same two commands delete them."
    )

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
    "mail_backend",
    "normalize_json",
    "should_send",
    "signature_of",
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


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a function. Raises TypeError or ValueError.

    Python 3.14 would evaluate the annotations, which may name what is imported for type checkers only.
    """
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.STRING)
    return inspect.signature(function)


#: Whether ``EmailMessage.message()`` takes a policy of Python's ``email``.
HAS_EMAIL_POLICIES = django.VERSION >= (6, 0)


def mail_backend() -> Any:
    """Return a backend of e-mail: ``MAILERS["default"]`` of Django 6.1, or that of ``EMAIL_BACKEND``."""
    from django.core import mail

    return mail.mailers.default if hasattr(mail, "mailers") else mail.get_connection()


def is_test_runner() -> bool:
    """Return whether this process runs tests with Django or pytest."""
    from django.test.utils import _TestState

    return hasattr(_TestState, "saved_data") or "pytest" in sys.modules
