"""Queues: paused and resumed, and how many of their jobs may run at once."""

from __future__ import annotations

from typing import Any

from notifications import streams, times, validators
from notifications.compat import task_backends
from notifications.db.transactions import database, in_callers_transaction, on_commit, retrying_atomic
from notifications.jobs.tasks import has_job_tasks
from notifications.models import Queue


def pause(name: str) -> None:
    """Let no more jobs of a queue begin; running ones go on. Inside a caller's transaction after its commit.

    Raises ValueError for a queue that the settings do not know.
    """
    _set(name, times.now())


def resume(name: str) -> None:
    """Let jobs of a queue begin again. Like ``pause``."""
    _set(name, None)


def paused() -> Any:
    """Return a query of the names of paused queues."""
    return Queue.objects.using(database()).filter(paused_at__isnull=False).values_list("name", flat=True)


def limits() -> dict[str, int]:
    """Return how many jobs of each queue may run at once, over all workers: ``OPTIONS["limits"]`` of ``TASKS``."""
    found: dict[str, int] = {}
    for options in task_backends.settings.values():
        found.update(options.get("OPTIONS", {}).get("limits", {}))
    return found


def names() -> set[str] | None:
    """Return the names of the queues in ``TASKS``; None where a backend of ours takes any."""
    found: set[str] = set()
    for alias in task_backends.settings:
        backend = task_backends[alias]
        if has_job_tasks(backend):
            if not backend.queues:
                return None
            found |= backend.queues
    return found


def refuse_unknown(name: str) -> None:
    """Raise ValueError for a queue that the settings do not know."""
    known = names()
    if not name or len(name) > validators.QUEUE or (known is not None and name not in known):
        told = f" The settings know: {', '.join(sorted(known))}." if known else ""
        raise ValueError(f"There is no queue {name[:100]!r}.{told}")


def _set(name: str, paused_at: Any) -> None:
    refuse_unknown(name)

    def change() -> None:
        Queue.objects.using(database()).update_or_create(name=name, defaults={"paused_at": paused_at})
        streams.ring((), queue=paused_at is None)

    if in_callers_transaction():
        on_commit(lambda: retrying_atomic(change))
    else:
        retrying_atomic(change)
