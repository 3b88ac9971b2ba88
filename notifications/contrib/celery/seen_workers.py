"""Which workers of Celery live, by their rows, and when one of them was lost that may have received a message."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from notifications.db.transactions import database
from notifications.models import Job, Worker

#: Seconds for which jobs of another broker are left to its workers after the last one was seen. Then any worker ends
#: them, without knowing more than that they were not found.
OTHER_BROKER_SECONDS = 600.0


class SeenWorkers:
    """The workers that this process has seen.

    ``live``
        How many workers take messages from this broker.
    ``other_brokers``
        Brokers from which other workers take messages, or took some lately: those workers find out about their jobs.
    """

    def __init__(self, broker: str) -> None:
        self._broker = broker
        self._until: dict[UUID, datetime] = {}
        #: When the last worker was lost. Before this process began, any worker may have been.
        self._lost_at: datetime | None = None
        self.live = 0
        self.other_brokers: list[str] = []
        #: When a worker of each other broker was seen last.
        self._seen_at: dict[str, datetime] = {}

    def update(self, now: datetime) -> None:
        """Read the rows."""
        rows = Worker.objects.using(database()).filter(queues__startswith="celery:")
        workers = list(rows.values_list("id", "broker", "lease_until"))
        self._seen_at |= {name: now for _, name, _ in workers if name not in ("", self._broker)}
        since = now - timedelta(seconds=OTHER_BROKER_SECONDS)
        self.other_brokers = [name for name, seen_at in self._seen_at.items() if seen_at > since]
        until = {id: until for id, name, until in workers if name in ("", self._broker)}
        # A worker that ends in good order gives its messages back, and deletes its row before its lease is over.
        lost = [end for id, end in (self._until | until).items() if end < now]
        self._lost_at = max([self._lost_at or now, *lost])
        self._until = {id: end for id, end in until.items() if end >= now}
        self.live = len(self._until)

    def may_have_lost(self, job: Job, since: datetime) -> bool:
        """Return whether a worker that was lost after ``since`` may have received the message of a job.

        It may have been suspended, and go on, or its broker delivers the message again.
        """
        return self._lost_at is not None and job.queued_at <= self._lost_at and self._lost_at > since
