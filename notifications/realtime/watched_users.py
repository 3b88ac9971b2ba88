"""The users who have clients connected to this process, what the hub remembers of each, and their positions.

Every process reads the positions every few seconds, so that a lost ring is only a delay.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from notifications.conf import settings
from notifications.realtime import close_reasons
from notifications.realtime.close_reasons import Bye
from notifications.realtime.subscriber import Subscriber
from notifications.streams import positions
from notifications.streams.positions import Position


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
