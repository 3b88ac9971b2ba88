"""A client that asks over HTTP and waits for something new: a long poll."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from notifications.realtime.close_reasons import Bye
from notifications.realtime.frames import Frame
from notifications.realtime.reader import CatchUp, etag
from notifications.realtime.subscriber import Subscriber

if TYPE_CHECKING:
    from notifications.realtime.hub import Hub


class Poll(Subscriber):
    """``answer()`` waits. Whatever is pushed to it makes it ask for a sync frame from where its client is."""

    __slots__ = ("bye", "found", "frame", "known", "seen", "settled", "snapshot", "start")

    def __init__(
        self,
        hub: Hub,
        user: Any,
        session: str | None,
        start: tuple[str | None, int | None],
        known: list[str] | None,
    ) -> None:
        """``start``: epoch and seq that the client has; ``known``: entity tags that it has, None if it names none."""
        super().__init__(hub, user, session)
        self.start = start
        self.known = known
        self.frame: Frame | None = None
        self.snapshot = False  # the frame starts anew
        self.found: CatchUp | None = None
        self.seen: str | None = None  # the entity tag of the first frame
        self.bye: Bye | None = None
        self.settled = hub.loop.create_future()

    async def answer(self, seconds: float) -> CatchUp | None:
        """Return what there is, at once if it is news to the client, else when something moves or the time is over.

        None if nothing could be read; ``bye`` gives the reason if the client was sent away.
        """
        self.bye = self.hub.join(self)
        if self.bye is not None:
            return None
        try:
            self.begin(*self.start)
            self.hub.read_up(self)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.settled
        finally:
            self.closed = True
            self.hub.leave(self)
        return self.found

    def deliver(self, frame: Frame) -> bool:
        """Take a sync frame. Others only say that something moved: then the hub has it lag."""
        if frame.op != "sync":
            return False
        self.frame, self.snapshot = frame, self.reset
        return True

    def lag(self) -> None:
        if not self.closed:
            self.reset = False
            self.begin(*self.start)
            self.hub.read_up(self)

    def caught_up(self, versions: Mapping[Any, int]) -> None:
        assert self.frame is not None and self.epoch is not None
        self.synced = True
        self.found = CatchUp(self.frame, etag(self.user, self.epoch, self.pos, versions))
        # Of several frames the client asks for each: the next would begin where this one ends.
        if self.owed or self._is_news(self.found.etag):
            self._settle()

    def close(self, bye: Bye) -> None:
        if not self.closed:
            self.bye = bye
            self._settle()

    def _is_news(self, tag: str) -> bool:
        first, self.seen = self.seen is None, self.seen or tag
        if not first:
            return tag != self.seen
        if self.known is not None:
            return self.known != ["*"] and tag not in self.known
        return self.snapshot or (self.epoch, self.pos) != self.start

    def _settle(self) -> None:
        self.closed = True
        self.hub.leave(self)
        if not self.settled.done():
            self.settled.set_result(None)
