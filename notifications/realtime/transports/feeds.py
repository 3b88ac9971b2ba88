"""The clients of feeds: long polls and Server-Sent Events."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from typing import Any

from notifications.realtime.feeds import FeedSource
from notifications.realtime.transports.poll import WaitingRequest
from notifications.realtime.transports.sse import EventStream

logger = logging.getLogger(__name__)


class FeedPoll(WaitingRequest):
    """Waits for the next part, or the end.

    ``result``
        The next part as soon as there is one, or an empty one at the end. None when nothing is there any more.
    """

    hub: Any

    def __init__(self, hub: Any, feed: FeedSource) -> None:
        super().__init__(hub, feed.follower)
        self.feed = feed

    def _begin(self) -> None:
        self.hub.feeds.add(self)

    def take(self, part: Any) -> None:
        self.result = part
        if part is None or part.data or part.is_closed:
            self._finish()

    def close(self, bye: Any) -> None:
        if not self.is_closed:
            self.result = None
        super().close(bye)

    def _leave(self) -> None:
        self.hub.feeds.remove(self)
        super()._leave()


class FeedEvents(EventStream):
    """``stream_from()`` is the body of one response."""

    hub: Any
    #: The Durable Streams protocol recommends this.
    max_response_seconds = 60.0

    def __init__(self, hub: Any, feed: FeedSource) -> None:
        super().__init__(hub, feed.follower)
        self.feed = feed

    def stream_from(self, part: Any) -> AsyncGenerator[bytes]:
        """Yield the events from this part on, until the feed or the response ends."""
        self.take(part)
        return self._stream(lambda: self.hub.feeds.add(self))

    def take(self, part: Any) -> None:
        if self.is_closed:
            return
        if part is None:
            self.end()
            return
        if self.total_bytes and self.total_bytes + len(part.data) > self.max_response_bytes:
            self.end()  # the next response begins with this part
            return
        if part.data or part.is_closed or not self.total_bytes:
            try:
                event = self.feed.event(part)
            except Exception:  # code of an app
                logger.exception("Could not make an event of the feed %s, whose response ends", self.feed.key)
                self.end()
                return
            self.feed.position = part.end
            self._append_bytes(event)
        if part.is_closed:
            self.end()
        else:
            self._end_if_large()

    def _leave(self) -> None:
        self.hub.feeds.remove(self)
        super()._leave()
