"""Wake Celery's processes by messages."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from django.core.checks import Error, Warning
from django.core.exceptions import ImproperlyConfigured

from notifications.contrib.celery.app import ENGINE_NAME, TASK_NAME, celery_app, check_installed
from notifications.contrib.celery.connections import (
    ANSWER_SECONDS,
    broker_url,
    new_connection,
)
from notifications.contrib.engines.checks import shortest_time_limit
from notifications.contrib.engines.interface import Engine
from notifications.db import database, database_now, is_lease_valid
from notifications.jobs import Policy
from notifications.models import Worker

#: Seconds that giving up a connection may take.
CLOSE_SECONDS = 1.0
#: How often, and after which seconds, the client of the broker tries again by itself.
RETRY_POLICY = {"max_retries": 2, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}
#: How the row of the main process of each Celery worker marks the queues that it takes, and how long that list may be.
ROW_PREFIX, MAX_ROW_LENGTH = "celery:", 1000


class CeleryEngine(Engine):
    """Wakes the processes of Celery's workers."""

    def __init__(self, alias: str, name: str) -> None:
        super().__init__(alias, name)
        check_installed()
        self._process = 0
        self._connection: Any = None
        self._producer: Any = None

    @property
    def label(self) -> str:
        return "Celery"

    @property
    def process_name(self) -> str:
        return ENGINE_NAME

    def taken_queues(self) -> set[str] | None:
        lists = _main_processes().values_list("queues", flat=True)
        names = {name for names in lists for name in names.split(",")}
        if not names or any(len(names) >= MAX_ROW_LENGTH for names in lists):
            return None
        default = f"{ROW_PREFIX}{celery_app().conf.task_default_queue}"
        return {"default" if name == default else name.removeprefix(ROW_PREFIX) for name in names}

    def start_advice(self, queue: str | None = None) -> str:
        try:
            app = celery_app()
        except ImproperlyConfigured:
            return "Start a Celery worker."
        command = f"celery -A {app.main or 'PROJECT'} worker"
        return f"Start one: {command}" + (f" -Q {celery_queue(app, queue)}" if queue else "")

    def wake(self, queue: str, count: int, *, expires: float) -> None:
        app = celery_app()
        with contextlib.ExitStack() as on_error:
            on_error.callback(self._disconnect)
            for _ in range(count):
                app.send_task(
                    TASK_NAME,
                    args=[queue, self.alias],
                    producer=self._connect(app),
                    queue=celery_queue(app, queue),
                    expires=expires,
                    ignore_result=True,
                    retry_policy=RETRY_POLICY,
                )
            on_error.pop_all()

    def check(self) -> list[Any]:
        try:
            app = celery_app()
        except ImproperlyConfigured as exc:
            return [Error(str(exc), id="notifications.E007")]
        if not broker_url(app):
            return [
                Warning(
                    "Celery has no broker URL, and connects to RabbitMQ on this machine.",
                    hint='Set CELERY_BROKER_URL, such as "redis://127.0.0.1:6379/0" or "amqp://user:password@host/".',
                    id="notifications.W007",
                )
            ]
        try:
            _ = new_connection(app).transport  # does not connect
        except (ImportError, LookupError, ValueError, AttributeError) as exc:
            return [
                Error(
                    f"Celery cannot use its broker URL: {exc}",
                    hint="Correct CELERY_BROKER_URL, or install the client that the broker needs.",
                    id="notifications.E007",
                )
            ]
        return _check_time_limits(app)

    def has_idle_processes(self) -> bool:
        return bool(_main_processes().exists())

    def ping(self) -> str:
        with new_connection(celery_app()) as connection:
            connection.ensure_connection(max_retries=1, timeout=ANSWER_SECONDS)
            return f"The broker answers: {connection.as_uri()}"

    def _connect(self, app: Any) -> Any:
        if self._process != os.getpid():  # a fork must not use, nor close, the connection of its parent
            self._process, self._connection, self._producer = os.getpid(), None, None
        if self._producer is None:
            self._connection = new_connection(app)
            self._producer = app.amqp.Producer(self._connection)
        return self._producer

    def _disconnect(self) -> None:
        """Give up the connection without a word to the broker, which may not answer."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection:
            connection.collect(socket_timeout=CLOSE_SECONDS)  # AMQP would say goodbye


def _main_processes() -> Any:
    """Return a queryset of the rows of the main processes of live workers."""
    live = Worker.objects.using(database()).filter(is_lease_valid(database_now()))
    return live.filter(queues__startswith=ROW_PREFIX)


def celery_queue(app: Any, name: str) -> str:
    """Return the name of Celery's queue for a queue of jobs: the default one of each stands for the other."""
    return app.conf.task_default_queue if name == "default" else name


def _check_time_limits(app: Any) -> list[Any]:
    limits = [app.conf.task_time_limit, app.conf.task_soft_time_limit]
    needed = shortest_time_limit()
    if not any(limit and limit < needed for limit in limits):
        return []
    return [
        Warning(
            f"Celery ends a message after {min(filter(None, limits)):g} s, and the jobs that run in its slot with it.",
            hint="Remove CELERY_TASK_TIME_LIMIT and CELERY_TASK_SOFT_TIME_LIMIT, and set the timeout of policies, or "
            "make them longer than the longest timeout of a task and "
            f"{needed - (Policy().timeout or 0):g} s more: at least {needed:g}.",
            id="notifications.W045",
        )
    ]
