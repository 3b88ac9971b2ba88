"""Long polls: an HTTP client that waits for something new."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from notifications.realtime.close_reasons import Bye
from notifications.realtime.frames import Frame
from notifications.realtime.reader import SyncResponse, etag
from notifications.realtime.subscriber import Follower, HubProtocol, Subscriber


class WaitingRequest(Subscriber):
    """A request that waits for its ``result``, until ``_finish()`` or until the hub closes it.

    ``bye``
        The reason of the hub, which may refuse it too.
    """

    def __init__(self, hub: HubProtocol, follower: Follower) -> None:
        super().__init__(hub, follower.user, follower.session_key)
        self.result: Any = None
        self.bye: Bye | None = None
        self.finished = hub.loop.create_future()

    def _begin(self) -> None:
        """Begin to read, after the hub was joined."""
        raise NotImplementedError

    async def wait(self, seconds: float) -> None:
        """Join the hub, and wait at most ``seconds``."""
        self.bye = self.hub.join(self)
        if self.bye is not None:
            return
        try:
            self._begin()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.finished
        finally:
            self._leave()

    def deliver(self, frame: Frame) -> bool:
        return False

    def close(self, bye: Bye) -> None:
        if not self.is_closed:
            self.bye = bye
            self._finish()

    def _leave(self) -> None:
        self.is_closed = True
        self.hub.leave(self)

    def _finish(self) -> None:
        self._leave()
        if not self.finished.done():
            self.finished.set_result(None)


class Poll(WaitingRequest):
    """Waits for what is new to a client. A live frame only triggers a new read from the client's position.

    ``result``
        What is new as soon as there is something, or the current state at the end. None if nothing could be read.
    """

    def __init__(
        self,
        hub: HubProtocol,
        follower: Follower,
        client_position: tuple[str | None, int | None],
        client_etags: list[str] | None,
    ) -> None:
        """``client_position`` is the client's (epoch, seq); ``client_etags`` are those of If-None-Match, or None."""
        super().__init__(hub, follower)
        self.client_position = client_position
        self.client_etags = client_etags
        self.frame: Frame | None = None
        self.is_snapshot = False  # of the frame
        self.first_etag: str | None = None

    def _begin(self) -> None:
        self.start_at(*self.client_position)
        self.hub.catch_up(self)

    def deliver(self, frame: Frame) -> bool:
        """Take a sync frame. Other frames are refused, so that the hub calls ``stop_following()``."""
        if frame.op != "sync":
            return False
        self.frame, self.is_snapshot = frame, self.needs_snapshot
        return True

    def stop_following(self) -> None:
        """Read again from the client's position, because something has changed."""
        if not self.is_closed:
            self.needs_snapshot = False
            self._begin()

    def handle_synced(self, versions: Mapping[Any, int]) -> None:
        assert self.frame is not None and self.epoch is not None
        self.is_synced = True
        self.result = SyncResponse(self.frame, etag(self.user, self.epoch, self.position, versions))
        # If more sync frames follow, the client requests the next one.
        if self.needs_sync or self._is_new(self.result.etag):
            self._finish()

    def _is_new(self, tag: str) -> bool:
        if self.first_etag is not None:
            return tag != self.first_etag
        self.first_etag = tag
        if self.client_etags is not None:
            return self.client_etags != ["*"] and tag not in self.client_etags
        return self.is_snapshot or (self.epoch, self.position) != self.client_position
