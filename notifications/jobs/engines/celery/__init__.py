"""Celery as the engine of jobs: ``"OPTIONS": {"engine": "notifications.jobs.engines.celery"}``.

app            the Celery app that the project has connected
engine         sends the ids of committed jobs to Celery's broker
worker         runs jobs in Celery's worker processes
"""

from typing import Any


def __getattr__(name: str) -> Any:
    # A project's celery.py imports this package before Django has loaded the models, which the engine needs.
    if name == "Engine":
        from notifications.jobs.engines.celery.engine import Engine

        return Engine
    raise AttributeError(name)
