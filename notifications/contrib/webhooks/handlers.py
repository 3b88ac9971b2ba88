"""The handlers in ``NOTIFICATIONS["HANDLERS"]``, their tasks imported.

A wrong handler does not keep the others from running: it is reported by a system check and logged.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from notifications import times
from notifications.conf import settings
from notifications.db import new_row
from notifications.extension import WrongDeclaration, hooks
from notifications.jobs import find_project_task, stores_jobs
from notifications.models import Job
from notifications.worker import NoThread, start_thread

logger = logging.getLogger("notifications.jobs")

NOTIFICATION_CREATED = "notification.created"
#: The system check of tasks that cannot be used, which may be different a moment later.
UNUSABLE = "notifications.W027"
NOTIFICATION_ANSWERED = "notification.answered"
JOB_WAITING = "job.waiting"
END_EVENTS = ("job.succeeded", "job.failed", "job.cancelled")
EVENTS = (*END_EVENTS, JOB_WAITING, NOTIFICATION_CREATED, NOTIFICATION_ANSWERED)
#: The task that sends an event to an endpoint of a webhook.
WEBHOOK_TASK = "notifications.contrib.webhooks.sending.send"
#: The task that calls the URL that a request has sent with its job.
CALLBACK_TASK = "notifications.contrib.webhooks.calling.call"

#: Seconds after which handlers that could not be used are tried again: an import may fail because a service is down.
RETRY_SECONDS = 30.0
#: What a job has of its task, whatever the event is.
_COLUMNS = ("task_path", "backend", "queue_name", "executor", "priority", "max_attempts", "url", "run_after")


@dataclass(frozen=True, kw_only=True, slots=True)
class Handler:
    """A task whose job is inserted for an event.

    ``columns``
        The values that all its jobs have.
    """

    task: Any
    columns: Mapping[str, Any]

    def build_job(self, event: Any, text: str, **columns: Any) -> Job:
        """Return the unsaved job of an event, which is given as a value and as its JSON."""
        now = times.now()
        title, concurrency_key, limit_key = self._make_texts(event)
        return new_row(
            Job,
            user_id=None,
            args=f"[{text}]",
            title=title,
            concurrency_key=concurrency_key,
            limit_key=limit_key,
            created_at=now,
            queued_at=now,
            expires_at=self.task.get_backend().expiry_of(self.task),
            **self.columns,
            **columns,
        )

    def _make_texts(self, event: Any) -> tuple[str, str, str]:
        try:
            texts: tuple[str, str, str] = self.task.get_backend().texts_of(self.task, [event])
            return texts
        except (LookupError, AttributeError, TypeError, ValueError) as exc:  # as str.format() does
            logger.error("The title or concurrency key of a handler's job cannot be made: %s", exc)
            return self.task.func.__name__[:200], "", ""


class Handlers:
    """The valid handlers.

    ``by_event``
        Without the events that have none.
    ``task_paths``
        Of all of them, and of silent tasks of extensions. Their jobs raise no events.
    ``webhook``
        The handler that sends an event to an endpoint; None where ``WEBHOOKS`` is off, or no backend stores its jobs.
    ``callback``
        The same for the handler that calls the URL of a request, None where ``CALLBACK_ORIGINS`` is empty.
    ``webhook_error``
        Why these handlers cannot be used, although a backend stores their jobs.
    ``wrong``
        What is wrong with the others.
    """

    def __init__(self, declared: Mapping[Any, Any]) -> None:
        self.by_event: dict[str, list[Handler]] = {}
        self.wrong: list[WrongDeclaration] = []
        for event, paths in declared.items():
            try:
                self._add_event(event, paths)
            except _Wrong as exc:
                self._report(event, exc)
        self.task_paths = {path for path, own in hooks.own_tasks.items() if own.is_silent}
        self.task_paths |= {handler.task.module_path for each in self.by_event.values() for handler in each}
        self.webhook_error = ""
        # Where they are off, no transaction looks for endpoints or URLs.
        self.webhook = self._make_own("WEBHOOKS", WEBHOOK_TASK)
        self.callback = self._make_own("CALLBACK_ORIGINS", CALLBACK_TASK)

    def _add_event(self, event: Any, paths: Any) -> None:
        if event not in EVENTS:
            raise _Wrong("notifications.W026", "There is no such event.", f"Events: {', '.join(EVENTS)}.")
        if not isinstance(paths, list | tuple):
            raise _Wrong(
                "notifications.W026",
                f"{paths!r} is not a list.",
                'Write {"job.failed": ["shop.tasks.tell_crm"]}.',
            )
        handlers: dict[str, Handler] = {}
        for path in dict.fromkeys(map(str, paths)):
            try:
                handler = _make_handler(path, _find_handler_task(path))
                # A task may be imported by several paths.
                handlers.setdefault(handler.task.module_path, handler)
            except _Wrong as exc:
                self._report(event, exc)
        if handlers:
            self.by_event[event] = list(handlers.values())

    def _make_own(self, setting: str, path: str) -> Handler | None:
        """Return the handler for a task of this app, None where its setting is off or it cannot be used."""
        try:
            if getattr(settings, setting) and stores_jobs((task := import_string(path)).backend):
                return _make_handler(path, task)
        except (AttributeError, ImproperlyConfigured):
            pass  # TASKS, with which it is no task, or the setting is wrong, which other checks report
        except _Wrong as exc:
            self.webhook_error = str(exc)
        return None

    def _report(self, event: Any, exc: _Wrong) -> None:
        message = f"NOTIFICATIONS['HANDLERS'][{event!r}]: {exc}"
        self.wrong.append(WrongDeclaration(exc.id, message, exc.hint))


class _Wrong(Exception):
    """A handler that cannot be used, with ``id`` and ``hint`` of the system check."""

    def __init__(self, id: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.id, self.hint = id, hint


_loaded: Handlers | None = None
_retry_at = math.inf  # monotonic


def load_handlers() -> Handlers:
    """Return the handlers. The first call in a process imports their tasks, so it is made before a transaction.

    Handlers that could not be used are tried again every ``RETRY_SECONDS``, on a thread: outcomes do not wait for it.
    """
    global _retry_at
    if _loaded is None:
        return _load(None)
    if time.monotonic() >= _retry_at:
        _retry_at = math.inf
        try:
            start_thread(_load, "notifications-handlers", _loaded)
        except NoThread:
            _retry_at = time.monotonic() + RETRY_SECONDS
    return _loaded


def _load(previous: Handlers | None) -> Handlers:
    global _loaded, _retry_at
    handlers = read_handlers()
    if _loaded is not previous:  # the setting has changed meanwhile
        return handlers
    for wrong in handlers.wrong:
        if previous is None or wrong not in previous.wrong:
            logger.error("Handler is not called: %s %s", wrong.message, wrong.hint)
    if handlers.webhook_error and (previous is None or not previous.webhook_error):
        logger.error("Webhooks and callbacks are not sent: %s", handlers.webhook_error)
    if previous is not None and len(handlers.wrong) < len(previous.wrong):
        logger.info(
            "Handlers that could not be used are called now: %d", len(previous.wrong) - len(handlers.wrong)
        )
    may_pass = handlers.webhook_error or any(wrong.id == UNUSABLE for wrong in handlers.wrong)
    _retry_at = time.monotonic() + RETRY_SECONDS if may_pass else math.inf
    _loaded = handlers
    return handlers


def read_handlers() -> Handlers:
    """Read the setting, and import the tasks that are not imported yet."""
    try:
        return Handlers(settings.HANDLERS)
    except ImproperlyConfigured:  # not a dict, which another check reports
        return Handlers({})


def find_wrong_handlers() -> list[WrongDeclaration]:
    """Return W026 to W028: what is wrong with handlers."""
    return read_handlers().wrong


def _find_handler_task(path: str) -> Any:
    try:
        return find_project_task(path)
    except ImportError as exc:
        raise _Wrong(UNUSABLE, str(exc), "Write the dotted path of a function with @task.") from exc


def _make_handler(path: str, task: Any) -> Handler:
    try:
        return _prepare_handler(task)
    except _Wrong:
        raise
    except Exception as exc:  # host code: engines, annotations, subclasses of the backend
        hint = "Correct the task, its policy or its backend."
        raise _Wrong(UNUSABLE, f"{path} cannot be used: {exc!r}", hint) from exc


def _prepare_handler(task: Any) -> Handler:
    if not stores_jobs(task.backend):
        raise _Wrong(
            UNUSABLE,
            f"The task {task.module_path} belongs to the backend {task.backend!r}, which stores no jobs in this app.",
            "Declare it with @task(backend=…) for a backend whose BACKEND is notifications.jobs.backend.JobBackend.",
        )
    try:
        task.get_backend().check_arguments(task, [{}], {})
    except TypeError as exc:
        raise _Wrong(
            "notifications.W028",
            f"It is called with the event only: {exc}",
            "Write a task with one argument: def tell_crm(event).",
        ) from exc
    # As enqueue() validates it. The texts are made for each event.
    job = task.get_backend().prepare_with(task, [{}], title="Title", concurrency_key="key")
    return Handler(task=task, columns={name: getattr(job, name) for name in _COLUMNS})


def _forget(*, setting: str, **kwargs: Any) -> None:
    global _loaded
    if setting in ("NOTIFICATIONS", "TASKS"):
        _loaded = None


setting_changed.connect(_forget)
