"""What staff request of a worker, or of all: to claim no more jobs for a while, or to end."""

from __future__ import annotations

from uuid import UUID

from django.db.models import QuerySet

from notifications.db.clock import database_now
from notifications.db.transactions import database, retrying_atomic
from notifications.jobs.claiming.unserved_queues import claiming_workers
from notifications.models import Worker

#: What stands before the name of an engine in the queues of a worker's row.
ENGINE_PREFIX = "engine:"


def request_of_worker(id: UUID, request: str) -> bool:
    """Store a ``Worker.Request``, or "" to withdraw it. Return False if the worker has ended or takes none.

    A worker that was told to stop cannot be told otherwise. Workers that are processes of an engine take no requests.
    """
    return bool(retrying_atomic(lambda: _requestable_workers().filter(id=id).update(request=request)))


def request_of_all_workers(request: str) -> list[Worker]:
    """Store a request for all workers that take one and have another. Returns them."""

    def write() -> list[Worker]:
        # Those of the update, also if one of them ends or is told to stop in between.
        ids = list(
            _requestable_workers().exclude(request=request).order_by("id").values_list("id", flat=True)
        )
        _requestable_workers().filter(id__in=ids).update(request=request)
        return list(Worker.objects.using(database()).filter(id__in=ids, request=request).order_by("id"))

    return retrying_atomic(write)


def _requestable_workers() -> QuerySet[Worker]:
    live = claiming_workers().filter(lease_until__gte=database_now())
    return live.exclude(request=Worker.Request.STOP).exclude(queues__startswith=ENGINE_PREFIX)
