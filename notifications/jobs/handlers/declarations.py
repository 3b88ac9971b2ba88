"""The handlers in ``NOTIFICATIONS["HANDLERS"]``, their tasks imported.

A wrong handler does not keep the others from running: it is reported by a system check and logged.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from notifications import times
from notifications.conf import WrongDeclaration, settings
from notifications.jobs.claiming.lanes import has_engine, lane_of
from notifications.jobs.engines import usable_engine
from notifications.jobs.policies import policy_of
from notifications.jobs.results import find_task
from notifications.jobs.tasks import JobOptions, stores_jobs

logger = logging.getLogger("notifications.jobs")

NOTIFICATION_CREATED = "notification.created"
EVENTS = ("job.succeeded", "job.failed", "job.cancelled", NOTIFICATION_CREATED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Handler:
    """A task whose job is inserted for an event.

    ``columns``
        The values that all its jobs have.
    ``names_event``
        Whether the title or the concurrency key of its policy may name parts of the event.
    """

    task: Any
    columns: Mapping[str, Any]
    has_engine: bool
    names_event: bool


class Handlers:
    """The valid handlers.

    ``by_event``
        Without the events that have none.
    ``task_paths``
        Of all of them. Jobs of these tasks raise no events.
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
        self.task_paths = frozenset(
            handler.task.module_path for each in self.by_event.values() for handler in each
        )

    def _add_event(self, event: Any, paths: Any) -> None:
        if event not in EVENTS:
            raise _Wrong("notifications.W026", "There is no such event.", f"Events: {', '.join(EVENTS)}.")
        if not isinstance(paths, list | tuple):
            raise _Wrong(
                "notifications.W026",
                f"{paths!r} is not a list.",
                'Write {"job.failed": ["shop.tasks.tell_crm"]}.',
            )
        for path in dict.fromkeys(map(str, paths)):
            try:
                self.by_event.setdefault(event, []).append(_make_handler(path))
            except _Wrong as exc:
                self._report(event, exc)
        if not self.by_event.get(event):
            self.by_event.pop(event, None)

    def _report(self, event: Any, exc: _Wrong) -> None:
        message = f"NOTIFICATIONS['HANDLERS'][{event!r}]: {exc}"
        self.wrong.append(WrongDeclaration(exc.id, message, exc.hint))


class _Wrong(Exception):
    """A handler that cannot be used, with ``id`` and ``hint`` of the system check."""

    def __init__(self, id: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.id, self.hint = id, hint


_loaded: Handlers | None = None


def load_handlers() -> Handlers:
    """Return the handlers. The first call in a process imports their tasks, so it is made before a transaction."""
    global _loaded
    if _loaded is None:
        handlers = read_handlers()
        for wrong in handlers.wrong:
            logger.error("Handler is not called: %s %s", wrong.message, wrong.hint)
        _loaded = handlers
    return _loaded


def read_handlers() -> Handlers:
    """Read the setting, and import the tasks that are not imported yet."""
    try:
        return Handlers(settings.HANDLERS)
    except ImproperlyConfigured:  # not a dict, which another check reports
        return Handlers({})


def _make_handler(path: str) -> Handler:
    try:
        task = find_task(path)
    except ImportError as exc:
        raise _Wrong(
            "notifications.W027", str(exc), "Write the dotted path of a function with @task."
        ) from exc
    if not stores_jobs(task.backend):
        raise _Wrong(
            "notifications.W027",
            f"The task {path} belongs to the backend {task.backend!r}, which stores no jobs in this app.",
            "Declare it with @task(backend=…) for a backend whose BACKEND is notifications.jobs.backend.JobBackend.",
        )
    signature = inspect.signature(task.func)
    try:
        signature.bind(*([None] if task.takes_context else []), {})
    except TypeError as exc:
        raise _Wrong(
            "notifications.W028",
            f"{path}{signature} cannot be called with the event: {exc}.",
            "Write a task with one argument: def tell_crm(event).",
        ) from exc
    if has_engine(task.backend):
        try:
            usable_engine(task.backend)
        except ImproperlyConfigured as exc:
            raise _Wrong(
                "notifications.W027", f"The jobs of {path} cannot run: {exc}", "Correct the engine."
            ) from exc
    policy, options = policy_of(task.func), getattr(task, "options", JobOptions())
    return Handler(
        task=task,
        columns={
            "task_path": task.module_path,
            "backend": task.backend,
            "queue_name": task.queue_name,
            "lane": lane_of(task.func),
            "priority": int(task.priority),
            "max_attempts": policy.max_attempts,
            "url": options.url or "",
            "run_after": task.run_after and times.as_utc(task.run_after),
        },
        has_engine=has_engine(task.backend),
        names_event="{" in str(policy.title) or "{" in policy.concurrency_key,
    )


def _forget(*, setting: str, **kwargs: Any) -> None:
    global _loaded
    if setting in ("NOTIFICATIONS", "TASKS"):
        _loaded = None


setting_changed.connect(_forget)
