"""Celery and this app: run jobs on Celery's workers, and observe the tasks that a project has already.

In the project's ``celery.py``, which is imported in every process that publishes or runs tasks::

    from notifications.contrib.celery import connect

    app = Celery("mysite")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.autodiscover_tasks()
    connect(app)

As an engine, ``"OPTIONS": {"engine": "notifications.contrib.celery"}``:

app            the Celery app that the project has connected
engine         sends the ids of committed jobs to Celery's broker
worker         runs jobs in Celery's worker processes

Celery's own tasks are observed, each execution with a job:

declarations   which tasks are observed, and the receivers of Celery's signals; ``observations`` what a job has of that
checks         compares the settings with the tasks that Celery knows; ``findings`` is for ``doctor``
observe        moves the jobs as the signals say
headers        what the publisher of a task passes to its worker
messages       jobs for the messages of tasks
execution      an observed task while it runs
eager          observed tasks that their publisher calls itself
task_ends      outcomes for what Celery says about the end of a task
recorder       the thread that writes to the database, in groups; ``held_reports`` is what waits for a hook that fails
               What it writes: `jobs/observed/`.
main_process   the row of a Celery worker, and what it does for all jobs
lost_tasks     what became of running tasks whose process is gone, and of queued ones of which nothing was reported
silence        which queued jobs may be lost, because Celery is silent about them
results        what the result backend knows of tasks; revokes tasks whose jobs are cancelled
connections    connections to the broker that give up when no answer comes
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from notifications.contrib.celery.app import check_installed, connect_app

check_installed()

from notifications.contrib.celery import checks, declarations  # noqa: E402, F401  (they import Celery)
from notifications.contrib.celery.job_task import JobTask  # noqa: E402
from notifications.contrib.celery.observations import Observation  # noqa: E402
from notifications.jobs.declaring.policies import NotifyOption  # noqa: E402

if TYPE_CHECKING:
    from django.utils.functional import Promise

    from notifications.contrib.engines.interface import Engine

__all__ = ["JobTask", "connect", "create_engine", "observed"]

T = TypeVar("T")


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


def observed(
    *,
    title: str | Promise = "",
    owner: str | Callable[..., Any] | None = None,
    url: str | Callable[..., Any] = "",
    notify: NotifyOption = True,
    start_within: float | timedelta | None = None,
) -> Callable[[T], T]:
    """Have a job for each execution of a Celery task. Stands above or below ``@shared_task`` or ``@app.task``.

    ::

        @shared_task
        @observed(title="Export {year}", owner="user_id", url="/exports/{year}/")
        def export(user_id, year): ...

    ``title``
        What the owner reads. It may name arguments of the task. Shortened to 200 characters. The default is the name of
        the task.
    ``owner``
        The name of the argument that holds the user or its primary key, or a function of the task's arguments that
        returns either, or None. By default, and where it is None, the owner that a job of this app would have: the user
        of the request, of ``requester(user)``, or of the running job or observed task.
    ``url``
        Where the result is shown, as for a job. It may name arguments, which are percent-encoded, or be a function of
        them.
    ``notify``
        As in ``policy``.
    ``start_within``
        A timedelta or seconds, from when the task is published or its ``eta``, after which the job fails if the task
        was not started. By default after the ``expires`` with which it is published, else never.

    Raises TypeError, and below ``@shared_task`` ValueError if ``title``, ``owner`` or ``url`` names an argument that
    the task lacks. Above it that is a warning of ``manage.py check`` (``notifications.W010``), as far as the module is
    imported then, and of the log of a worker.
    """
    observation = Observation(title=title, owner=owner, url=url, notify=notify, start_within=start_within)

    def attach(task: T) -> T:
        declarations.add(task, observation)
        return task

    return attach


def _register(sender: Any, **kwargs: Any) -> None:
    """Register the task when the project's apps are loaded: Celery finalizes an app at its first use."""
    import django
    from django.apps import apps

    if not apps.ready:
        django.setup()
    from notifications.contrib.celery.worker import connect as connect_worker

    connect_worker(sender)


declarations.connect()
