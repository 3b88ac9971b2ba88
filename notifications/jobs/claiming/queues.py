"""Queues: pause and resume them, and their limits of jobs that run at once."""

from __future__ import annotations

from typing import Any

from notifications import streams, times, validators
from notifications.compat import task_backends
from notifications.db.transactions import database, in_callers_transaction, on_commit, retrying_atomic
from notifications.jobs.tasks import has_job_tasks
from notifications.models import Queue


def pause(name: str) -> None:
    """Start no more jobs of a queue. Running jobs continue. Inside a caller's transaction it is done after the commit.

    Raises ValueError for a queue that is not in the settings.
    """
    _set_paused_at(name, times.now())


def resume(name: str) -> None:
    """Start jobs of a queue again. See pause()."""
    _set_paused_at(name, None)


def paused_queues() -> Any:
    """Return a queryset of the names of paused queues."""
    return Queue.objects.using(database()).filter(paused_at__isnull=False).values_list("name", flat=True)


def queue_limits() -> dict[str, int]:
    """Return how many jobs of each queue may run at once, over all workers: ``OPTIONS["limits"]`` of ``TASKS``."""
    limits: dict[str, int] = {}
    for options in task_backends.settings.values():
        limits.update(options.get("OPTIONS", {}).get("limits", {}))
    return limits


def known_queues() -> set[str] | None:
    """Return the names of the queues in ``TASKS``, or None if a backend of this app takes any name."""
    names: set[str] = set()
    for alias in task_backends.settings:
        backend = task_backends[alias]
        if has_job_tasks(backend):
            if not backend.queues:
                return None
            names |= backend.queues
    return names


def check_queue_name(name: str) -> None:
    """Raise ValueError for a queue that is not in the settings."""
    known = known_queues()
    if not name or len(name) > validators.MAX_QUEUE_LENGTH or (known is not None and name not in known):
        hint = f" The queues in TASKS are: {', '.join(sorted(known))}." if known else ""
        raise ValueError(f"There is no queue {name[:100]!r}.{hint}")


def _set_paused_at(name: str, paused_at: Any) -> None:
    check_queue_name(name)

    def write() -> None:
        Queue.objects.using(database()).update_or_create(name=name, defaults={"paused_at": paused_at})
        streams.ring((), queue=paused_at is None)

    if in_callers_transaction():
        on_commit(lambda: retrying_atomic(write))
    else:
        retrying_atomic(write)
