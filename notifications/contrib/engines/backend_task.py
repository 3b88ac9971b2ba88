"""The one task that other backends of Django's Tasks run for this app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from notifications.compat import Task


def _task(function: Callable[..., Any]) -> Any:
    """Return a task without a backend. ``@task`` would refuse it if the backend "default" lacks the queue "default"."""
    made = object.__new__(Task)
    for field in fields(Task):
        object.__setattr__(made, field.name, function if field.name == "func" else field.default)
    return made


@_task
def run_job(id: str, engine: str) -> str:
    """Run a job of this app. Return why the worker of the backend ``engine`` need not wait for it any longer."""
    from notifications.contrib.engines import process

    return str(process.run_in_unknown_process(id, engine=engine))
