"""Queues: pause and resume them, and their limits of jobs that run at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from notifications import streams, times, validators
from notifications.compat import task_backends
from notifications.conf import cached_until_changed
from notifications.db.transactions import database, in_callers_transaction, on_commit, retrying_atomic
from notifications.extension import hooks
from notifications.jobs.declaring.tasks import has_job_tasks
from notifications.models import Queue

logger = logging.getLogger("notifications.jobs")


def pause_queue(name: str, *, is_paused: bool = True) -> Queue:
    """Start no more jobs of a queue, or start them again. Running jobs continue. Return the queue as it is then.

    Inside a caller's transaction its row is written after the commit. Raises ValueError for a queue that is not in the
    settings.
    """
    check_queue_name(name)
    queue = Queue(name=name, paused_at=times.now() if is_paused else None)

    def write() -> None:
        rows = Queue.objects.using(database())
        rows.update_or_create(name=name, defaults={"paused_at": queue.paused_at})
        streams.ring((), queue=not is_paused)

    def write_and_wake() -> None:
        retrying_atomic(write)
        if not is_paused:
            hooks.dispatch.wake_for_queue(name)

    if in_callers_transaction():
        on_commit(write_and_wake)
    else:
        write_and_wake()
    return queue


def paused_queues() -> Any:
    """Return a queryset of the names of paused queues."""
    return Queue.objects.using(database()).filter(paused_at__isnull=False).values_list("name", flat=True)


@cached_until_changed("TASKS")
def queue_limits() -> dict[str, int]:
    """Return how many jobs of each queue may run at once, over all workers: ``OPTIONS["limits"]`` of ``TASKS``.

    Limits that the system check W009 names are logged once and ignored.
    """
    limits: dict[str, int] = {}
    for alias, params in task_backends.settings.items():
        wrong = set()
        for name, problem, hint in find_wrong_limits(params):
            wrong.add(name)
            logger.error("Ignored a wrong limit: TASKS[%r] %s %s", alias, problem, hint)
        given = params.get("OPTIONS", {}).get("limits", {})
        if isinstance(given, dict):
            limits |= {name: limit for name, limit in given.items() if name not in wrong}
    return limits


def find_wrong_limits(params: dict[str, Any]) -> Iterator[tuple[Any, str, str]]:
    """Yield the queue of each wrong limit of a backend in ``TASKS``, what is wrong, and the remedy."""
    limits = params.get("OPTIONS", {}).get("limits", {})
    queues = params.get("QUEUES", ["default"])
    for name, limit in (limits if isinstance(limits, dict) else {"limits": limits}).items():
        if not isinstance(limits, dict) or not _is_limit(limit):
            hint = 'Write "OPTIONS": {"limits": {"reports": 5}}, with integers of 1 or more.'
            yield name, f"limits {name!r} to {limit!r} concurrent jobs.", hint
        elif queues and name not in queues:
            hint = f"Its queues: {', '.join(sorted(queues))}."
            yield name, f"limits the queue {name!r}, which is not among its QUEUES.", hint


def _is_limit(limit: Any) -> bool:
    return isinstance(limit, int) and not isinstance(limit, bool) and limit >= 1


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
    if not name or len(name) > validators.MAX_NAME_LENGTH or (known is not None and name not in known):
        hint = f" The queues in TASKS are: {', '.join(sorted(known))}." if known else ""
        raise ValueError(f"There is no queue {name[:100]!r}.{hint}")
