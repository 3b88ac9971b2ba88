"""The Celery app that the project has connected. It is known before the models are loaded."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured

#: The name of the Celery task that runs jobs of a queue.
TASK_NAME = "notifications.wake"
#: The name of the engine in the list of workers.
ENGINE_NAME = "celery"

_connected_app: Any = None


def check_installed() -> None:
    """Raise ``ImproperlyConfigured`` if Celery is not installed."""
    try:
        import celery  # noqa: F401
    except ImportError as exc:
        raise ImproperlyConfigured(
            "Celery is not installed. Install asyncsite-notifications[celery]."
        ) from exc


def connect_app(app: Any) -> None:
    """Use this Celery app for all jobs of the process."""
    global _connected_app
    _connected_app = app


def celery_app() -> Any:
    """Return the Celery app that was connected. Raises ``ImproperlyConfigured``."""
    if _connected_app is None:
        raise ImproperlyConfigured(
            "No Celery app is connected. Call notifications.contrib.celery.connect(app) in the project's celery.py, "
            "and import that module in the project's __init__.py, as Celery's guide for Django says."
        )
    return _connected_app
