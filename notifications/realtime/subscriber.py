"""One connected client, as the hub sees it: its position, what it is owed, and whether it takes a frame now."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from notifications.realtime.close_reasons import Bye
from notifications.realtime.frames import Frame

if TYPE_CHECKING:
    from notifications.realtime.hub import Hub


class Subscriber:
    """What the hub needs of a client, whether a WebSocket, a stream of events or a long poll.

    All of it runs on the server's event loop, and nothing here waits.
    """

    #: Whether it is one of the sockets of which a user may have so many.
    is_socket = False

    __slots__ = (
        "closed",
        "epoch",
        "greeted",
        "hub",
        "owed",
        "pos",
        "reset",
        "session",
        "synced",
        "task",
        "user",
    )

    def __init__(self, hub: Hub, user: Any, session: str | None) -> None:
        self.hub = hub
        self.user = user
        self.session = session
        self.task: Any = asyncio.current_task()
        self.greeted = False  # it has said where it is
        self.synced = False  # the first sync frame was sent
        self.owed = False  # sync frames are owed: a catch-up, or it lags
        self.reset = False  # they must start with a snapshot
        self.closed = False
        self.epoch: str | None = None
        self.pos = 0

    def begin(self, epoch: str | None, seq: int | None) -> None:
        """It is there, or (None) nowhere: the first sync frame is a snapshot then."""
        self.greeted = self.owed = True
        if epoch is None or seq is None:
            self.reset = True
        else:
            self.epoch, self.pos = epoch, seq

    def deliver(self, frame: Frame) -> bool:
        """Take a frame; False, and nothing is taken, where there is no room for it."""
        raise NotImplementedError

    def lag(self) -> None:
        """Stop following live: what is missed from now on is read up from the position, as there is room."""
        self.owed = True

    def has_room(self) -> bool:
        """Whether it takes anything at all now; a large frame may still not fit."""
        return True

    def caught_up(self, versions: Mapping[Any, int]) -> None:
        """A sync frame was taken, and the position moved there; in it were active jobs of these versions."""
        self.synced = True

    def check_times(self, now: float) -> None:
        """Do what is due by the clock; called about once a second."""

    def close(self, bye: Bye) -> None:
        """Say why, and take no more. Nothing follows a bye."""
        raise NotImplementedError


if sys.version_info >= (3, 12):

    def start(coroutine) -> asyncio.Task:
        """Run a coroutine as a task, its first step at once: most servers take a message without waiting."""
        return asyncio.Task(coroutine, loop=asyncio.get_running_loop(), eager_start=True)

else:

    def start(coroutine) -> asyncio.Task:
        """Run a coroutine as a task."""
        return asyncio.get_running_loop().create_task(coroutine)
