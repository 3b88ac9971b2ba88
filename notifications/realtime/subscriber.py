"""A connected client as the hub sees it: its position, which frames it needs, and whether it can take one now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from notifications.realtime.close_reasons import Bye
from notifications.realtime.frames import Frame


class HubProtocol(Protocol):
    """What a subscriber uses of its hub."""

    loop: asyncio.AbstractEventLoop

    def join(self, subscriber: Subscriber) -> Bye | None: ...

    def leave(self, subscriber: Subscriber) -> None: ...

    def catch_up(self, subscriber: Subscriber) -> None: ...

    def check_credentials(self, user: Any) -> None: ...


class Follower(NamedTuple):
    """Who follows over HTTP.

    ``user``
        The primary key.
    ``session_key``
        None: they have not signed in by a session.
    ``is_accepted``
        Called in a thread, it returns whether an authenticator still accepts them. None: no authenticator has found
        them.
    """

    user: Any
    session_key: str | None
    is_accepted: Callable[[], bool] | None = None


class Subscriber:
    """Base class of WebSockets, event streams and long polls.

    All methods run on the server's event loop and must not block.
    """

    #: Whether it counts toward ``NOTIFICATIONS["SOCKETS_PER_USER"]``.
    is_socket = False
    #: Whether the project's authenticators must say that they still accept it.
    is_unconfirmed = False

    __slots__ = (
        "epoch",
        "hub",
        "is_closed",
        "is_started",
        "is_synced",
        "needs_snapshot",
        "needs_sync",
        "position",
        "session_key",
        "task",
        "user",
    )

    def __init__(self, hub: HubProtocol, user: Any, session_key: str | None) -> None:
        self.hub = hub
        self.user = user
        self.session_key = session_key
        self.task: Any = asyncio.current_task()
        self.is_started = False  # the client's position is known
        self.is_synced = False  # the first catch-up is complete
        self.needs_sync = False  # sync frames are due; live frames are not sent
        self.needs_snapshot = False  # the first of them must be a snapshot
        self.is_closed = False
        self.epoch: str | None = None
        self.position = 0

    def start_at(self, epoch: str | None, seq: int | None) -> None:
        """Set the client's position. None for either means that the first sync frame is a snapshot."""
        self.is_started = self.needs_sync = True
        if epoch is None or seq is None:
            self.needs_snapshot = True
        else:
            self.epoch, self.position = epoch, seq

    def deliver(self, frame: Frame) -> bool:
        """Send a frame. Returns False, without sending it, if there is no room for it."""
        raise NotImplementedError

    def stop_following(self) -> None:
        """Stop live frames; what follows the position comes in sync frames, when there is room."""
        self.needs_sync = True

    def has_room(self) -> bool:
        """Return whether any frame can be sent now; a large one may still be refused."""
        return True

    def handle_synced(self, versions: Mapping[Any, int]) -> None:
        """Called after a sync frame was delivered and the position set; it contained active jobs in these versions."""
        self.is_synced = True

    def handle_tick(self, now: float) -> None:
        """Called about once per second, with the loop's time."""

    def close(self, bye: Bye) -> None:
        """Send the reason and nothing after it."""
        raise NotImplementedError
