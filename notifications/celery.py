"""Celery and this app: run jobs on Celery's workers.

In the project's ``celery.py``::

    from notifications.celery import connect

    app = Celery("mysite")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.autodiscover_tasks()
    connect(app)
"""

from __future__ import annotations

from typing import Any

from notifications.jobs.engines.celery.app import check_installed, connect_app

__all__ = ["connect"]


def connect(app: Any) -> None:
    """Connect a Celery app, so that its workers can run jobs. Call it once, where the app is created.

    Jobs go to Celery if their backend in ``TASKS`` has ``"OPTIONS": {"engine": "notifications.jobs.engines.celery"}``.
    Raises ``ImproperlyConfigured`` without Celery.
    """
    check_installed()
    connect_app(app)
    app.on_after_finalize.connect(_register, weak=False)


def _register(sender: Any, **kwargs: Any) -> None:
    """Register the task when the project's apps are loaded: Celery finalizes an app at its first use."""
    import django
    from django.apps import apps

    if not apps.ready:
        django.setup()
    from notifications.jobs.engines.celery.worker import connect as connect_worker

    connect_worker(sender)
