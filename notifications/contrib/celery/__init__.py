"""Celery: its tasks are jobs by their class, ``JobTask``, and its processes run the jobs of this app.

In the project's ``celery.py``, which is imported in every process that enqueues or runs jobs::

    from notifications.contrib.celery import connect

    app = Celery("mysite")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.autodiscover_tasks()
    connect(app)

Celery's tasks as jobs:

job_task          the class, which the calls of a task go through
job_calls         from a call to the row of a job; ``job_arguments`` encodes its arguments
job_declarations  the Django task and the policy that stand for a task
job_execution     the task while its job runs
job_results       what a call returns
task_messages     messages by the names of such tasks, of which workers of Celery make jobs
beat              ticks for which the database is away
checks            what is wrong with the options of such tasks

As an engine, the backend in ``TASKS`` has ``"OPTIONS": {"engine": "notifications.contrib.celery"}``:

app            the Celery app that the project has connected
engine         sends messages to Celery's broker
worker         runs jobs in Celery's worker processes
main_process   the row of a Celery worker, and what its main process does for all jobs
connections    connections to the broker that give up when no answer comes
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from notifications.contrib.celery.app import check_installed, connect_app

check_installed()

from notifications.contrib.celery import checks  # noqa: E402, F401  (they import Celery)
from notifications.contrib.celery.job_task import JobTask  # noqa: E402

if TYPE_CHECKING:
    from notifications.contrib.engines.interface import Engine

__all__ = ["JobTask", "connect", "create_engine"]


def connect(app: Any) -> None:
    """Connect a Celery app, so that its workers can run jobs. Call it once, where the app is created.

    Jobs go to Celery if their backend in ``TASKS`` has ``"OPTIONS": {"engine": "notifications.contrib.celery"}``.
    """
    connect_app(app)
    app.on_after_finalize.connect(_register, weak=False)


def create_engine(alias: str, name: str) -> Engine:
    """Return the engine of a backend of ``TASKS``."""
    # A project's celery.py imports this package before Django has loaded the models, which the engine needs.
    from notifications.contrib.celery.engine import CeleryEngine

    return CeleryEngine(alias, name)


def _register(sender: Any, **kwargs: Any) -> None:
    """Register the task when the project's apps are loaded: Celery finalizes an app at its first use."""
    import django
    from django.apps import apps

    if not apps.ready:
        django.setup()
    from notifications.contrib.celery.worker import connect as connect_worker

    connect_worker(sender)
