"""Celery and this app: run jobs on Celery's workers, and observe the tasks that a project has already.

In the project's ``celery.py``, which is imported in every process that publishes or runs tasks::

    from notifications.celery import connect

    app = Celery("mysite")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.autodiscover_tasks()
    connect(app)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from notifications.jobs.engines.celery.app import check_installed, connect_app

check_installed()

from notifications.jobs.engines.celery import declarations  # noqa: E402  (it imports Celery)
from notifications.jobs.observations import Observation  # noqa: E402
from notifications.jobs.policies import NotifyOption  # noqa: E402

if TYPE_CHECKING:
    from django.utils.functional import Promise

__all__ = ["connect", "observed"]

T = TypeVar("T")


def connect(app: Any) -> None:
    """Connect a Celery app, so that its workers can run jobs. Call it once, where the app is created.

    Jobs go to Celery if their backend in ``TASKS`` has ``"OPTIONS": {"engine": "notifications.jobs.engines.celery"}``.
    """
    connect_app(app)
    app.on_after_finalize.connect(_register, weak=False)


def observed(
    *,
    title: str | Promise = "",
    owner: str | Callable[..., Any] | None = None,
    url: str | Callable[..., Any] = "",
    notify: NotifyOption = True,
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

    Raises TypeError, and below ``@shared_task`` ValueError if ``title``, ``owner`` or ``url`` names an argument that
    the task lacks. Above it that is a warning of ``manage.py check`` (``notifications.W010``), as far as the module is
    imported then, and of the log of a worker.
    """
    observation = Observation(title=title, owner=owner, url=url, notify=notify)

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
    from notifications.jobs.engines.celery.worker import connect as connect_worker

    connect_worker(sender)


declarations.connect()
