"""Workers, what staff request of them, web processes, and the circuits of the outbound calls that workers make."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet

from notifications.db import database, database_now, is_lease_valid, retrying_atomic
from notifications.db.clock import longest_lease
from notifications.models import ServerProcess, Worker

#: The rows that are read at most of each kind.
MAX_PROCESSES = 100
#: The origins that are listed at most.
MAX_ORIGINS = 50
#: What stands before the name of an engine in the queues of a worker's row.
ENGINE_PREFIX = "engine:"


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerProcess:
    """One worker. ``slots`` is 0 for a process of an engine that claims no jobs.

    ``engine`` is "" for the built-in worker. ``memory`` is that of its process in bytes (RSS), None where it is not
    known.
    """

    id: UUID
    host: str
    pid: str
    started_at: datetime
    queues: list[str]
    engine: str
    load: int
    slots: int
    lease_seconds: float
    memory: int | None
    outbound: str
    request: str

    @property
    def id_text(self) -> str:
        """The id, as a parameter of the list of jobs."""
        return str(self.id)

    @property
    def is_live(self) -> bool:
        """Whether its lease holds."""
        return 0 <= self.lease_seconds <= longest_lease().total_seconds()

    @property
    def takes_requests(self) -> bool:
        """Whether staff can quiet and stop it."""
        return self.is_live and self.slots > 0 and not self.engine and self.request != Worker.Request.STOP


@dataclass(frozen=True, kw_only=True, slots=True)
class CircuitState:
    """The calls of one worker to one origin. ``failed`` of ``calls`` have failed recently."""

    host: str
    pid: str
    origin: str
    state: str
    busy: int
    waiting: int
    failed: int
    calls: int


def read_workers(now: datetime) -> list[WorkerProcess]:
    """Return the workers, the oldest first, with those whose lease is over and whose jobs were not yet taken away."""
    rows = Worker.objects.using(database()).order_by("id")[:MAX_PROCESSES]
    return [_worker(row, now) for row in rows]


def read_servers(now: datetime) -> list[ServerProcess]:
    """Return the live web processes, the oldest first."""
    return list(
        ServerProcess.objects.using(database())
        .filter(is_lease_valid(now, ServerProcess.LEASE_SECONDS))
        .order_by("id")[:MAX_PROCESSES]
    )


def read_circuits(workers: Iterable[WorkerProcess]) -> list[CircuitState]:
    """Return the origins that live workers call, those with an open circuit first. It makes no query."""
    found = [circuit for worker in workers if worker.is_live for circuit in _circuits(worker)]
    found.sort(
        key=lambda circuit: (circuit.state == "closed", -circuit.waiting, -circuit.failed, circuit.origin)
    )
    return found[:MAX_ORIGINS]


def _worker(row: Worker, now: datetime) -> WorkerProcess:
    # The identity is boot id, pid namespace, pid and start time on Linux, "" elsewhere.
    identity = row.process.split()
    names = [name for name in row.queues.split(",") if name]
    engines = [name.removeprefix(ENGINE_PREFIX) for name in names if name.startswith(ENGINE_PREFIX)]
    return WorkerProcess(
        id=row.pk,
        request=row.request,
        host=row.host,
        pid=identity[2] if len(identity) == 4 else "",
        started_at=row.started_at,
        queues=[] if engines else names,
        engine=engines[0] if engines else "",
        load=row.load,
        slots=row.concurrency,
        lease_seconds=(row.lease_until - now).total_seconds(),
        memory=row.memory,
        outbound=row.outbound,
    )


def _circuits(worker: WorkerProcess) -> list[CircuitState]:
    try:
        origins = json.loads(worker.outbound or "{}").get("origins", [])
        return [
            CircuitState(
                host=worker.host,
                pid=worker.pid,
                origin=str(origin["origin"]),
                state=str(origin["circuit"]),
                **{name: int(origin[name]) for name in ("busy", "waiting", "failed", "calls")},
            )
            for origin in origins
        ]
    except (ValueError, TypeError, KeyError, AttributeError):  # damaged, or of another version of the app
        return []


def request_of_worker(id: UUID, request: str) -> bool:
    """Store a ``Worker.Request``, or "" to withdraw it. Return False if the worker has ended or takes none.

    A worker that was requested to stop takes no other request. Processes of engines take none.
    """
    return bool(retrying_atomic(lambda: _requestable_workers().filter(id=id).update(request=request)))


def request_of_all_workers(request: str) -> list[Worker]:
    """Store a request for all workers that take one and have another. Returns them."""

    def write() -> list[Worker]:
        # Those of the update, also if one of them ends or is requested to stop in between.
        ids = list(
            _requestable_workers().exclude(request=request).order_by("id").values_list("id", flat=True)
        )
        _requestable_workers().filter(id__in=ids).update(request=request)
        return list(Worker.objects.using(database()).filter(id__in=ids, request=request).order_by("id"))

    return retrying_atomic(write)


def _requestable_workers() -> QuerySet[Worker]:
    live = Worker.objects.using(database()).filter(is_lease_valid(database_now()), concurrency__gt=0)
    return live.exclude(request=Worker.Request.STOP).exclude(queues__startswith=ENGINE_PREFIX)
