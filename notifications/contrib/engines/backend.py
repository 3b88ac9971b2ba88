"""Any other backend of Django's Tasks as the engine of jobs: ``"OPTIONS": {"engine": "alias:other"}``.

Its workers run one task, ``backend_task.wake``, with the name of a queue. What the backend cannot do (delays, retries,
results, async tasks, priorities) is done by the rows.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any
from uuid import uuid4

from django.core.checks import ERROR, Error, Info, Warning
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from notifications.compat import TaskResultDoesNotExist
from notifications.contrib.engines.backend_task import wake
from notifications.contrib.engines.checks import shortest_time_limit
from notifications.contrib.engines.interface import Engine
from notifications.jobs import Policy, stores_jobs, task_backends
from notifications.worker import check_connections

#: Backends of Django that run a task in the process that enqueues it, or never.
BACKENDS_WITHOUT_WORKERS = {
    f"{package}.backends.{module}"
    for package in ("django.tasks", "django_tasks")
    for module in ("dummy.DummyBackend", "immediate.ImmediateBackend")
}
#: The time limit in seconds of django-rq for a job of a queue without ``DEFAULT_TIMEOUT``.
RQ_DEFAULT_TIMEOUT_SECONDS = 180


class BackendEngine(Engine):
    """Enqueues one task for each message on the backend of ``TASKS`` with the alias ``name``."""

    @property
    def label(self) -> str:
        return f"TASKS[{self.name!r}]"

    def start_advice(self, queue: str | None = None) -> str:
        of_queue = f" that takes its queue {_queue_name(task_backends[self.name], queue)}" if queue else ""
        return f"Start a worker of {self.label}{of_queue}."

    def wake(self, queue: str, count: int, *, expires: float) -> None:
        backend = task_backends[self.name]
        # Not every backend can drop a message, so the task itself sees that it is old.
        args = [queue, self.alias, time.time() + expires]
        for _ in range(count):
            backend.enqueue(self._task(backend, queue), args, {})

    def ping(self) -> str:
        """Look for a result that does not exist. A backend that cannot look for results is not asked."""
        backend = task_backends[self.name]
        if not backend.supports_get_result:
            return ""
        check_connections()
        with suppress(TaskResultDoesNotExist):
            backend.get_result(str(uuid4()))
        return f"{self.label} answers."

    def check(self) -> list[Any]:
        backend = task_backends[self.name]
        errors = [
            Error(f"{self.label} cannot run jobs: {message.msg}", hint=message.hint, id="notifications.E007")
            for message in backend.check()
            if message.level >= ERROR
        ]
        return errors or [*self._check_queues(backend), *self._check_rq(backend)]

    def _task(self, backend: Any, queue: str) -> Any:
        return backend.task_class(
            func=wake.func,
            priority=0,
            queue_name=_queue_name(backend, queue),
            backend=self.name,
            takes_context=False,
            run_after=None,
        )

    def _check_queues(self, backend: Any) -> list[Any]:
        missing = task_backends[self.alias].queues - backend.queues if backend.queues else set()
        if not missing:
            return []
        return [
            Warning(
                f"{self.label} lacks queues of TASKS[{self.alias!r}], whose jobs run there in the queue "
                f"{_queue_name(backend, '')!r}: {', '.join(sorted(missing))}.",
                hint="Add them to its QUEUES, and start workers for them.",
                id="notifications.W005",
            )
        ]

    def _check_rq(self, backend: Any) -> list[Any]:
        if not any(base.__module__.startswith("django_tasks_rq.") for base in type(backend).__mro__):
            return []
        queues = import_string("django_rq.settings.QUEUES")
        needed = shortest_time_limit()
        limits = {
            name: queues[name].get("DEFAULT_TIMEOUT", RQ_DEFAULT_TIMEOUT_SECONDS)
            for name in sorted(backend.queues & queues.keys())
        }
        short = [name for name, limit in limits.items() if 0 <= limit < needed]
        found: list[Any] = [
            Info(
                f"Workers of {self.label} run one job at a time, and a job that waits in join() occupies one.",
                hint="Start more workers than jobs that wait for others, or use another engine for these.",
                id="notifications.I004",
            )
        ]
        if short:
            found.append(
                Warning(
                    f"RQ ends jobs of these queues before their own timeout ({Policy().timeout:g} s by default): "
                    f"{', '.join(short)}.",
                    hint=f'Set "DEFAULT_TIMEOUT" in RQ_QUEUES to the longest timeout of a task and '
                    f"{needed - (Policy().timeout or 0):g} seconds more, at least {needed:g}, or to -1.",
                    id="notifications.W006",
                )
            )
        return found


def create_engine(alias: str, name: str) -> Engine:
    """Return the engine of a backend. Raises ``ImproperlyConfigured`` if ``name`` is no backend that runs jobs."""
    text = f"TASKS[{alias!r}] has the engine 'alias:{name}'"
    if name not in task_backends.settings:
        known = ", ".join(sorted(task_backends.settings.keys() - {alias}))
        raise ImproperlyConfigured(
            f"{text}, but TASKS has no backend {name!r}. Its other backends: {known or 'none'}."
        )
    backend = task_backends[name]
    if stores_jobs(name):
        raise ImproperlyConfigured(
            f"{text}, which is a backend of this app itself. Name one of another package, or remove the engine."
        )
    paths = {f"{base.__module__}.{base.__qualname__}" for base in type(backend).__mro__}
    if paths & BACKENDS_WITHOUT_WORKERS:
        raise ImproperlyConfigured(
            f"{text}, whose {type(backend).__name__} has no workers. Name a backend that has, or remove the engine."
        )
    return BackendEngine(alias, name)


def _queue_name(backend: Any, name: str) -> str:
    """Return the queue for the jobs of a queue: the one of this name, else the default one."""
    if not backend.queues or name in backend.queues:
        return name
    return "default" if "default" in backend.queues else min(backend.queues)
