"""Celery as the engine of jobs: ``"OPTIONS": {"engine": "notifications.jobs.engines.celery"}``.

app            the Celery app that the project has connected
engine         sends the ids of committed jobs to Celery's broker
worker         runs jobs in Celery's worker processes
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from notifications.jobs.engines.interface import Engine


def create_engine(alias: str, name: str) -> Engine:
    """Return the engine of a backend. Raises ``ImproperlyConfigured`` without Celery."""
    # A project's celery.py imports this package before Django has loaded the models, which the engine needs.
    from notifications.jobs.engines.celery.engine import CeleryEngine

    return CeleryEngine(alias, name)
