"""What Celery's result backend knows of tasks, and the revocation of tasks whose jobs are cancelled."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from celery import current_app, states
from celery.app.control import TERM_SIGNAME

from notifications.contrib.celery.connections import broadcast
from notifications.contrib.celery.messages import task_id
from notifications.models import Job
from notifications.worker import DaemonExecutor, NoThread

logger = logging.getLogger("notifications.jobs")

#: On a thread of its own: a broker that is away must not delay the request that cancels.
_executor = DaemonExecutor(1, "notifications-revoke")


def read_meta(app: Any, id: str) -> dict[str, Any] | None:
    """Return what the result backend has stored of a task: ``status`` and ``result``. None if it has nothing.

    Raises what the backend raises while it is away.
    """
    backend = app.backend
    if backend.as_uri() in ("rpc://", "disabled://"):  # a result is only in a queue of the caller
        return None
    try:
        meta: dict[str, Any] = backend.get_task_meta(id, cache=False)
    except NotImplementedError:
        return None
    return None if meta.get("status") == states.PENDING else meta


def revoke_tasks(jobs: Sequence[Job]) -> None:
    """Revoke the tasks of cancelled jobs, and terminate those that run. Does not wait, and raises nothing."""
    ids = [task_id(job) for job in jobs]
    try:
        _executor.submit(send_revoke, current_app._get_current_object(), ids)
    except (NoThread, RuntimeError) as exc:
        logger.warning("Could not revoke Celery tasks: %s", exc)


def send_revoke(app: Any, ids: Sequence[str], **options: Any) -> None:
    """Have the workers of an app revoke tasks, and terminate those that run. Errors are logged."""
    try:
        arguments = {"task_id": list(ids), "terminate": True, "signal": TERM_SIGNAME}
        broadcast(app, "revoke", arguments, **options)
    except Exception as exc:
        logger.warning("Could not revoke %d Celery tasks: %r", len(ids), exc)


def _after_fork() -> None:
    global _executor
    _executor = DaemonExecutor(1, "notifications-revoke")  # a child has none of its parent's threads


os.register_at_fork(after_in_child=_after_fork)
