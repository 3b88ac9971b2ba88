"""What differs between versions of Django or is private to it, and the package that has the same name as this one.

The Tasks API is part of Django from 6.0 on, and of the package ``django-tasks`` on 5.2.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable
from pathlib import Path, PurePath
from types import MethodType
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.log import RequireDebugTrue

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
    from django.tasks.backends.dummy import DummyBackend
    from django.tasks.backends.immediate import ImmediateBackend
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
    from django_tasks.backends.dummy import DummyBackend
    from django_tasks.backends.immediate import ImmediateBackend
    from django_tasks.base import Task, TaskError
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
    from django_tasks.exceptions import TaskResultDoesNotExist
    from django_tasks.signals import task_enqueued, task_finished, task_started
    from django_tasks.utils import normalize_json

__all__ = [
    "DEFAULT_TASK_BACKEND_ALIAS",
    "BaseTaskBackend",
    "DummyBackend",
    "ImmediateBackend",
    "InvalidTask",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskResult",
    "TaskResultDoesNotExist",
    "TaskResultStatus",
    "normalize_json",
    "should_send",
    "signature_of",
    "task",
    "task_backends",
    "task_enqueued",
    "task_finished",
    "task_started",
]

if not TYPE_CHECKING and (6, 0) <= django.VERSION < (6, 1):

    def task(  # that of Django 6.0 takes no options of a backend's own
        function=None,
        *,
        priority=0,
        queue_name="default",
        backend=DEFAULT_TASK_BACKEND_ALIAS,
        takes_context=False,
        **options,
    ):
        """Return a task for a function, with the options of its backend, as that of Django 6.1."""

        def decorate(decorated):
            return task_backends[backend].task_class(
                func=decorated,
                priority=priority,
                queue_name=queue_name,
                backend=backend,
                takes_context=takes_context,
                run_after=None,
                **options,
            )

        return decorate(function) if function else decorate


#: Django's own receivers, by the ids by which signals keep them. They only write to the log.
_LOG_RECEIVERS = {id(signals.log_task_enqueued), id(signals.log_task_started), id(signals.log_task_finished)}


def should_send(signal: Any, level: int = logging.INFO) -> bool:
    """Return whether a signal of Django's Tasks has receivers, or a handler takes what Django logs of it at ``level``.

    Otherwise sending it is skipped: making the TaskResult takes half of the time of a small job. In a new project
    nothing takes what is logged at INFO: its handlers are ``mail_admins``, and ``console`` for ``DEBUG``.
    """
    has_receivers = any(key[0] not in _LOG_RECEIVERS for key, *_ in signal.receivers)
    return has_receivers or _is_handled(signals.logger, level)


def _is_handled(logger: logging.Logger, level: int) -> bool:
    """Return whether a handler takes records of ``logger`` at ``level``, searched as ``Logger.callHandlers()`` does.

    Nothing is cached, because loggers, handlers and settings may change at any time: a call takes 1.4 µs.
    """
    if not logger.isEnabledFor(level):
        return False
    # A filter of a logger may count records. Error trackers replace callHandlers() to see those that nothing takes.
    if logger.filters or not (_is_original(logger.handle) and _is_original(logger.callHandlers)):
        return True
    has_handlers = False
    current: logging.Logger | None = logger
    while current:
        for handler in current.handlers:
            has_handlers = True
            if level >= handler.level and not _rejects_all(handler):
                return True
        current = current.parent if current.propagate else None
    return not has_handlers and logging.lastResort is not None and level >= logging.lastResort.level


def _rejects_all(handler: logging.Handler) -> bool:
    """Return whether the first filter rejects all records, so that no other is called."""
    filters = handler.filters
    return bool(filters) and type(filters[0]) is RequireDebugTrue and not settings.DEBUG


def _is_original(method: Any) -> bool:
    """Return whether a method of an object is one that ``logging`` defines.

    Wrappers have the name and module of what they wrap, those of wrapt all its attributes, but not its type.
    """
    return type(method) is MethodType and getattr(method.__func__, "__globals__", None) is vars(logging)


def signature_of(function: Callable[..., Any], *, follow_wrapped: bool = True) -> inspect.Signature:
    """Return the signature of a function, by default of the one that it wraps. Raises TypeError or ValueError.

    Python 3.14 would evaluate the annotations, which may name what is imported for type checkers only.
    """
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, follow_wrapped=follow_wrapped, annotation_format=Format.STRING)
    return inspect.signature(function, follow_wrapped=follow_wrapped)


def is_test_runner() -> bool:
    """Return whether this process runs tests with Django or pytest."""
    from django.test.utils import _TestState

    return hasattr(_TestState, "saved_data") or "pytest" in sys.modules


def is_management_script(script: str) -> bool:
    """Return whether ``script``, the first of ``sys.argv``, runs Django's management commands."""
    path = PurePath(script)
    names = {"manage.py", "django-admin", "django-admin.exe"}
    return path.name in names or path.parts[-2:] == ("django", "__main__.py")
