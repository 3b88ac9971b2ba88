"""The clients of this process: their users, what the hub remembers of each, and the row that counts them.

Every process reads the positions of its users every few seconds, so that a lost ring is only a delay.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from notifications import times
from notifications.conf import settings
from notifications.db.clock import database_now, is_lease_over
from notifications.db.transactions import database, retrying_atomic
from notifications.ids import uuid7
from notifications.models import ServerProcess
from notifications.realtime import close_reasons
from notifications.realtime.close_reasons import Bye
from notifications.realtime.subscriber import Subscriber
from notifications.streams import positions
from notifications.streams.positions import Position

#: Rows of ended processes that one call deletes at most.
MAX_ROWS_DELETED = 100


class WatchedUser:
    """A user with at least one subscriber."""

    __slots__ = ("active_sums", "guard", "socket_count", "subscribers", "versions")

    def __init__(self) -> None:
        self.subscribers: dict[Subscriber, None] = {}  # an ordered set, by time of joining
        self.socket_count = 0  # counts toward SOCKETS_PER_USER
        self.versions: dict[Any, int] = {}  # of active jobs, as sent last
        self.active_sums: tuple[int, int] = (0, 0)  # checksum of active jobs at the last position check
        self.guard: int | None = None  # of the stream; None until it is read


class WatchedUsers(dict[Any, WatchedUser]):
    """Watched users by user key."""

    def add(self, subscriber: Subscriber) -> Bye | None:
        """Add a subscriber. Returns the reason to refuse it if its user has too many sockets."""
        user = self.get(subscriber.user) or WatchedUser()
        if subscriber.is_socket and user.socket_count >= settings.SOCKETS_PER_USER:
            return close_reasons.TOO_MANY_SOCKETS
        self[subscriber.user] = user
        user.subscribers[subscriber] = None
        user.socket_count += subscriber.is_socket
        return None

    def remove(self, subscriber: Subscriber) -> bool:
        """Remove a subscriber. Returns False if it was not added, or is removed already."""
        user = self.get(subscriber.user)
        if user is None or subscriber not in user.subscribers:
            return False
        del user.subscribers[subscriber]
        user.socket_count -= subscriber.is_socket
        if not user.subscribers:
            del self[subscriber.user]
        return True

    def subscribers(self, keys: Iterable[Any] | None = None) -> list[Subscriber]:
        """Return all subscribers, or those of these user keys."""
        users = self.values() if keys is None else filter(None, map(self.get, keys))
        return [subscriber for user in users for subscriber in user.subscribers]


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionCheck:
    """The epoch, stream positions by user, and checksums of active jobs by user."""

    epoch: str
    positions: dict[Any, Position]
    active_sums: dict[Any, tuple[int, int]]


def check_positions(users: list[Any]) -> PositionCheck:
    """Read the positions and active jobs of these user keys. Runs in a thread."""
    return PositionCheck(
        epoch=positions.epoch(),
        positions=positions.positions(users),
        active_sums=positions.read_active_sums(users),
    )


class ServerRow:
    """The row by which the overview lists this server process. Its calls need a thread that may use the database."""

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
            lease_until=now + timedelta(seconds=ServerProcess.LEASE_SECONDS),
            sockets=sockets,
            users=users,
        )
        rows = ServerProcess.objects.using(database())
        over = is_lease_over(now, ServerProcess.LEASE_SECONDS)
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
