"""Feeds: what clients follow over HTTP beside the stream of their user, such as the output of a job.

The clients join the hub, which closes them when their user signs out and when the server stops; no frame is sent to
them. A feed is read from the database once for all clients that are at the same position, when the doorbell rings for
its user. A ring may be lost, so all are read every few seconds too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Protocol

from django.core.exceptions import ObjectDoesNotExist

from notifications.db.unavailable import log_retried
from notifications.realtime.pool import ThreadPool
from notifications.realtime.subscriber import Follower

logger = logging.getLogger(__name__)

#: Seconds until a failed read is repeated.
RETRY_SECONDS = 1.0


class FeedSource(Protocol):
    """What a client uses of its feed: see ``http.feeds.Feed``."""

    follower: Follower
    key: Any
    position: Any

    def read(self, positions: Iterable[Any]) -> Mapping[Any, Any]: ...

    def event(self, part: Any) -> bytes: ...


class FeedClient(Protocol):
    """A client that follows a feed: see ``transports/feeds.py``."""

    user: Any
    feed: FeedSource

    def take(self, part: Any) -> None:
        """Take the part at the position, perhaps empty; None if nothing is there any more."""


class _Followed:
    """The clients of one feed."""

    def __init__(self) -> None:
        self.clients: dict[FeedClient, None] = {}
        self.is_reading = False
        #: Something may have been written since the last read began.
        self.is_due = False


class Feeds:
    """``add()`` a client, which takes what there is and then what is written, until ``remove()``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: ThreadPool) -> None:
        self._loop = loop
        self._pool = pool
        self._feeds: dict[Any, dict[Hashable, _Followed]] = {}

    def add(self, client: FeedClient) -> None:
        """Begin to read for a client. It must have joined the hub, which listens to the doorbell then."""
        followed = self._feeds.setdefault(client.user, {}).setdefault(_key_of(client), _Followed())
        followed.clients[client] = None
        self._read(followed)

    def remove(self, client: FeedClient) -> None:
        """Read no more for a client. Has no effect on one that was removed."""
        feeds, key = self._feeds.get(client.user, {}), _key_of(client)
        followed = feeds.get(key)
        if followed is None:
            return
        followed.clients.pop(client, None)
        if not followed.clients:
            del feeds[key]
            if not feeds:
                del self._feeds[client.user]

    def __contains__(self, user: object) -> bool:
        """Return whether a client of this user (key) follows a feed, on any thread."""
        return user in self._feeds

    def read_users(self, users: Iterable[Any]) -> None:
        """Read for the clients of these users (keys)."""
        for user in users:
            for followed in list(self._feeds.get(user, {}).values()):
                self._read(followed)

    def read_all(self) -> None:
        """Read for all clients."""
        self.read_users(list(self._feeds))

    def _read(self, followed: _Followed) -> None:
        followed.is_due = True
        feeds = [client.feed for client in followed.clients]
        positions = {feed.position for feed in feeds}
        if followed.is_reading or not positions:
            return
        followed.is_due, followed.is_reading = False, True

        def on_done(future: asyncio.Future[Any]) -> None:
            followed.is_reading = False
            exc = future.exception()
            if exc and not isinstance(exc, ObjectDoesNotExist):
                log_retried(logger, "Could not read a feed, which is tried again", exc)
                self._loop.call_later(RETRY_SECONDS, self._read, followed)
                return
            parts = dict.fromkeys(positions) if exc else future.result()
            for client in list(followed.clients):
                if client.feed.position in parts:
                    client.take(parts[client.feed.position])
            if followed.is_due or any(part and not part.is_last for part in parts.values()):
                self._read(followed)

        self._pool.run(feeds[0].read, positions).add_done_callback(on_done)


def _key_of(client: FeedClient) -> Hashable:
    return type(client.feed), client.feed.key
