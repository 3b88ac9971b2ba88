"""The task that other backends of Django's Tasks run for this app."""

from __future__ import annotations

import time
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
def wake(queue: str, backend: str, expires_at: float) -> None:
    """Run jobs of a queue, unless the message is old: another one has followed then."""
    from notifications.contrib.engines import process

    if time.time() < expires_at:
        process.run_in_unknown_process(queue, backend=backend)
