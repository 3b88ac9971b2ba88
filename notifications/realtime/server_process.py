"""The row of this server process, by which the overview lists web processes with their sockets."""

from __future__ import annotations

import os
import socket
from datetime import timedelta

from notifications import times
from notifications.db.clock import database_now, is_lease_over
from notifications.db.transactions import database, retrying_atomic
from notifications.ids import uuid7
from notifications.models import ServerProcess

#: Seconds after a renewal until the row counts as that of a process that has ended.
LEASE_SECONDS = 30.0
#: Rows of ended processes that one call deletes at most.
MAX_ROWS_DELETED = 100


class ServerRow:
    """The row of one hub's process. Its calls need a thread that may use the database."""

    def __init__(self) -> None:
        self.id = uuid7()
        self._started_at = times.now()

    def renew(self, sockets: int, users: int) -> None:
        """Store how many clients of how many users are connected, and delete the rows of ended processes."""
        now = database_now()
        row = ServerProcess(
            id=self.id,
            host=socket.gethostname()[:255],
            pid=os.getpid(),
            started_at=self._started_at,
            lease_until=now + timedelta(seconds=LEASE_SECONDS),
            sockets=sockets,
            users=users,
        )
        rows = ServerProcess.objects.using(database())
        over = is_lease_over(now, LEASE_SECONDS)
        ended = list(rows.filter(over).values_list("id", flat=True)[:MAX_ROWS_DELETED])

        def write() -> None:
            rows.bulk_create(
                [row],
                update_conflicts=True,
                unique_fields=["id"],
                update_fields=["lease_until", "sockets", "users"],
            )
            if ended:
                rows.filter(over, id__in=ended).exclude(id=self.id).delete()

        retrying_atomic(write)

    def remove(self) -> None:
        """Delete the row, because the process serves no longer."""
        retrying_atomic(lambda: ServerProcess.objects.using(database()).filter(id=self.id).delete())
