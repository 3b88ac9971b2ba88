"""Send the ids of committed jobs to Celery's broker."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any

from django.core.checks import Error, Warning
from django.core.exceptions import ImproperlyConfigured
from kombu.exceptions import OperationalError

from notifications.contrib.celery.app import ENGINE_NAME, TASK_NAME, celery_app, check_installed
from notifications.contrib.celery.connections import (
    ANSWER_SECONDS,
    broadcast,
    broker_url,
    new_connection,
)
from notifications.contrib.engines.interface import DispatchedJob, Engine, JobsRefused
from notifications.db.clock import database_now
from notifications.db.transactions import database
from notifications.jobs.transitions.claims import DEADLINE_MARGIN_SECONDS
from notifications.models import Worker

#: Seconds that giving up a connection may take.
CLOSE_SECONDS = 1.0
#: How often, and after which seconds, the client of the broker tries again by itself.
RETRY_POLICY = {"max_retries": 2, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}
#: How the row of the main process of each Celery worker marks the queues that it takes, and how long that list may be.
ROW_PREFIX, MAX_ROW_LENGTH = "celery:", 1000
#: The range of ``priority`` in Django.
MIN_PRIORITY, MAX_PRIORITY = -100, 100
#: The highest of Celery's priorities, of which 0 is the lowest. Redis has them the other way round.
MAX_CELERY_PRIORITY = 9


class CeleryEngine(Engine):
    """Dispatches jobs to Celery."""

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
        live = Worker.objects.using(database()).filter(lease_until__gte=database_now())
        lists = live.filter(queues__startswith=ROW_PREFIX).values_list("queues", flat=True)
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

    def dispatch(self, jobs: Sequence[DispatchedJob]) -> None:
        app = celery_app()
        refused: list[tuple[DispatchedJob, Exception]] = []
        for job in jobs:
            try:
                self._send(app, job)
            except Exception as exc:
                is_away = isinstance(exc, _connection_errors(self._connection))
                self._disconnect()
                if is_away:
                    raise
                refused.append((job, exc))  # for example of a queue that the broker has with other arguments
            except BaseException:
                self._disconnect()
                raise
        if refused:
            job, cause = refused[0]
            raise JobsRefused(
                f"{len(refused)} jobs were refused, first job {job.id} of queue {job.queue_name}: {cause!r}"
            ) from cause

    def revoke(self, jobs: Sequence[DispatchedJob]) -> None:
        broadcast(celery_app(), "revoke", {"task_id": [job.message_id for job in jobs]})

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
        except Exception as exc:
            return [
                Error(
                    f"Celery cannot use its broker URL: {exc}",
                    hint="Correct CELERY_BROKER_URL, or install the client that the broker needs.",
                    id="notifications.E007",
                )
            ]
        return []

    def has_idle_processes(self) -> bool:
        return False  # each has a row from its start

    def ping(self) -> str:
        with new_connection(celery_app()) as connection:
            connection.ensure_connection(max_retries=1, timeout=ANSWER_SECONDS)
            return f"The broker answers: {connection.as_uri()}"

    def _send(self, app: Any, job: DispatchedJob) -> None:
        # Celery kills the process of a task that exceeds its time limit. The worker ends a task at its timeout, so that
        # is for sync tasks that do not end. An async one shares its process with others.
        time_limit = None if job.is_async else job.timeout.total_seconds() + DEADLINE_MARGIN_SECONDS
        app.send_task(
            TASK_NAME,
            args=[str(job.id), job.is_async],
            task_id=job.message_id,
            producer=self._connect(app),
            queue=celery_queue(app, job.queue_name),
            priority=celery_priority(app, job.priority),
            time_limit=time_limit,
            shadow=job.task_path,
            ignore_result=True,
            retry_policy=RETRY_POLICY,
        )

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
            # AMQP would say goodbye, and the errors of a broken connection can be of any kind.
            with contextlib.suppress(Exception):
                connection.collect(socket_timeout=CLOSE_SECONDS)


def _connection_errors(connection: Any) -> tuple[type[BaseException], ...]:
    """Return the exceptions of a broker that cannot be reached, as opposed to one that refuses a message."""
    errors = set(connection.connection_errors if connection else ()) | {OSError, OperationalError}
    return tuple(errors - {KeyError})  # with Redis Kombu counts a queue that is not known as one


def celery_queue(app: Any, name: str) -> str:
    """Return the name of Celery's queue for a queue of jobs: the default one of each stands for the other."""
    return app.conf.task_default_queue if name == "default" else name


def celery_priority(app: Any, priority: int) -> int:
    """Return the priority of a message for a priority of -100 to 100. Brokers without priorities ignore it."""
    share = (priority - MIN_PRIORITY) / (MAX_PRIORITY - MIN_PRIORITY)
    scaled = round(share * MAX_CELERY_PRIORITY)
    is_redis = broker_url(app).startswith(("redis", "sentinel", "unix"))
    return MAX_CELERY_PRIORITY - scaled if is_redis else scaled
