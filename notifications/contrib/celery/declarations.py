"""The declarations of ``@observed``, and the connection of the receivers of signals.

The project's ``celery.py`` imports this before Django is ready: nothing here imports models.
"""

from __future__ import annotations

import functools
import importlib
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from inspect import isfunction
from typing import Any

from celery import current_app, signals

from notifications.contrib.celery.observations import Observation, find_configured
from notifications.jobs.declaring.templates import refuse_unknown_names

logger = logging.getLogger("notifications.jobs")

_ATTRIBUTE = "_notifications_observation"
#: Tasks with ``@observed`` above ``@shared_task``. Reading the name of one would finalize the app, so it is read when a
#: task is looked up.
_pending: list[tuple[Any, Observation]] = []
#: Declarations by the names of their tasks.
_declared: dict[str, Observation] = {}
#: What is wrong with those that were declared, by the names of their tasks.
_problems: dict[str, str] = {}
#: Held while they are declared. Reentrant: finalizing an app may run code of the project, which publishes a task.
_pending_lock = threading.RLock()

#: The receivers, by the names of signals: the modules import models, so they are imported with the first signal.
_RECEIVERS = {
    "before_task_publish": "observe.add_header",
    "after_task_publish": "observe.insert_published",
    "task_received": "observe.remember",
    "task_prerun": "observe.begin",
    "task_postrun": "observe.end",
    "task_success": "observe.succeed",
    "task_failure": "observe.fail",
    "task_internal_error": "observe.fail",
    "task_retry": "observe.retry",
    "task_revoked": "observe.revoke",
    "task_unknown": "observe.fail_unknown",
    "worker_init": "observe.prepare_worker",
    "worker_ready": "main_process.start",
    "worker_shutdown": "main_process.stop",
    "worker_process_shutdown": "main_process.drain",
}


def add(task: Any, observation: Observation) -> None:
    """Observe a task: its function, below ``@shared_task``, or the task itself. Raises TypeError or ValueError."""
    if isfunction(task):
        _refuse_unknown_names(observation, task)
        setattr(task, _ATTRIBUTE, observation)
    elif isinstance(task, staticmethod | classmethod | type) or not callable(task):
        raise TypeError("@observed stands above or below @shared_task or @app.task.")
    else:
        _pending.append((task, observation))


def find(name: str) -> Observation | None:
    """Return how the task with this name is observed, None if it is not. The settings take precedence."""
    return find_configured(name) or _find_declared(name)


def find_wrong_argument(observation: Observation, task: Any) -> str:
    """Return what is wrong if an option names something that is no argument of a task, else ""."""
    try:
        _refuse_unknown_names(observation, task.run)
    except ValueError as exc:
        return str(exc)
    except (TypeError, AttributeError):  # a task without a function, or one that has no signature
        pass
    return ""


def find_wrong_declarations() -> dict[str, str]:
    """Return what is wrong with declarations above ``@shared_task``, by the names of their tasks."""
    with suppress(RuntimeError):  # an app with autofinalize=False that is not ready
        _declare_pending()
    return dict(_problems)


def connect() -> None:
    """Connect the receivers. Called once, when ``notifications.contrib.celery`` is imported."""
    for name, receiver in _RECEIVERS.items():
        getattr(signals, name).connect(
            _receiver(receiver), weak=False, dispatch_uid=f"notifications.{receiver}.{name}"
        )


def _refuse_unknown_names(observation: Observation, function: Callable[..., Any]) -> None:
    for option in ("title", "url"):
        refuse_unknown_names(option, getattr(observation, option), function)
    if isinstance(observation.owner, str):
        refuse_unknown_names("owner", f"{{{observation.owner}}}", function)


def _receiver(path: str) -> Callable[..., None]:
    module, _, function = path.partition(".")

    @functools.cache
    def find() -> Callable[..., None]:
        found: Callable[..., None] = getattr(
            importlib.import_module(f"notifications.contrib.celery.{module}"), function
        )
        return found

    def receive(**kwargs: Any) -> None:
        try:
            find()(**kwargs)
        except Exception:
            logger.exception("Could not observe a Celery task: %s", path)

    return receive


def _find_declared(name: str) -> Observation | None:
    """Return the declaration of a task, which is then remembered by its name."""
    if name not in _declared and _pending:
        _declare_pending()
    if name in _declared:
        return _declared[name]
    with suppress(RuntimeError):  # an app with autofinalize=False that is not ready
        current_app.finalize(auto=True)  # registers shared tasks
    task = current_app._tasks.get(name)
    run = getattr(task, "run", None)
    found: Observation | None = getattr(run, _ATTRIBUTE, None)
    if found is not None:
        _declared[name] = found
    return found


def _declare_pending() -> None:
    """Declare tasks by their names. One stays pending until it is declared, so that no other thread misses it."""
    with _pending_lock:
        declared = list(_pending)
        for task, observation in declared:
            _declared[task.name] = observation
            if problem := find_wrong_argument(observation, task):
                _problems[task.name] = problem
                logger.error("Wrong @observed of Celery task %s: %s", task.name, problem)
        _pending[:] = [item for item in _pending if all(item is not done for done in declared)]
