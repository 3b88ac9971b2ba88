"""What staff request of a worker: to claim no more jobs for a while, or to end."""

from __future__ import annotations

from uuid import UUID

from notifications.db.clock import database_now
from notifications.db.transactions import retrying_atomic
from notifications.models import Worker
from notifications.operations.unserved_queues import claiming_workers

#: What stands before the name of an engine in the queues of a worker's row.
ENGINE_PREFIX = "engine:"


def request_of_worker(id: UUID, request: str) -> bool:
    """Store a ``Worker.Request``, or "" to withdraw it. Return False if the worker has ended or takes none.

    A worker that was told to stop cannot be told otherwise. Workers that are processes of an engine take no requests.
    """
    live = claiming_workers().filter(id=id, lease_until__gte=database_now())
    rows = live.exclude(request=Worker.Request.STOP).exclude(queues__startswith=ENGINE_PREFIX)
    return bool(retrying_atomic(lambda: rows.update(request=request)))
