"""Who was signed out: sessions of connected clients, read again when something hints at it, and now and then all.

A guard moves when sessions of a user may have ended, but the session itself may end a moment after it, and a client
may have come in between. So sessions are read twice after a guard moved, and once after a client joined, when the guard
that it joined under is known. Where there is no stream, there is no guard: there they are read when somebody rings, and
when the user is found to be gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from notifications.realtime import close_reasons
from notifications.realtime.auth.sessions import Claim, all_signed_in, gone
from notifications.realtime.subscriber import Subscriber

if TYPE_CHECKING:
    from notifications.realtime.hub import Hub

logger = logging.getLogger(__name__)

#: Seconds after which sessions are read again: after a guard moved, after a client joined, after the database failed.
AFTER_GUARD = (0.5, 2.0)
AFTER_JOINING = 2.0
RETRY = 1.0
MAX_SESSIONS_PER_QUERY = 100


class SignOut:
    """``joined()``, ``moved()`` and ``without_guard()`` have sessions read again soon, ``read()`` at once."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._joined: list[tuple[float, Subscriber]] = []  # when they may be read, and who; in this order
        self._failed: set[Subscriber] = set()

    def joined(self, subscribers: Iterable[Subscriber]) -> None:
        """These are new, or no guard tells of them: read their sessions in a moment, all together."""
        due = self.hub.loop.time() + AFTER_JOINING
        self._joined += [(due, subscriber) for subscriber in subscribers]

    def moved(self, users: Iterable[Any]) -> None:
        """Sessions of these users (keys) may have ended just now, or end in a moment."""
        users = list(users)
        if users:
            for after in AFTER_GUARD:
                self.hub.loop.call_later(after, lambda: self.read(self.hub.subscribers(users)))

    def without_guard(self, users: list[Any]) -> None:
        """Read the sessions of those of these users (keys) who do not exist any more."""

        def looked(future: asyncio.Future) -> None:
            if exc := future.exception():
                logger.warning("It could not be found out which users are gone: %s", exc)
            else:
                self.read(self.hub.subscribers(future.result()))

        if users:
            self.hub.auth_pool.run(gone, users).add_done_callback(looked)

    def tick(self) -> None:
        """Read the sessions of those who joined a while ago, all together."""
        now = self.hub.loop.time()
        count = next((at for at, (due, _) in enumerate(self._joined) if due > now), len(self._joined))
        if count:
            joined, self._joined = self._joined[:count], self._joined[count:]
            self.read(subscriber for _, subscriber in joined)

    def read(self, subscribers: Iterable[Subscriber]) -> None:
        """Close those of these who are not signed in any more."""
        asked = list(dict.fromkeys(subscriber for subscriber in subscribers if not subscriber.closed))
        for start in range(0, len(asked), MAX_SESSIONS_PER_QUERY):
            some = asked[start : start + MAX_SESSIONS_PER_QUERY]
            claims = [Claim(session=one.session, user=one.user) for one in some]
            self.hub.auth_pool.run(all_signed_in, claims).add_done_callback(self._closer(some))

    def _closer(self, subscribers: list[Subscriber]) -> Callable[[asyncio.Future], None]:
        def checked(future: asyncio.Future) -> None:
            if exc := future.exception():
                logger.warning("Sessions could not be read again: %s", exc)
                self._read_again(subscribers)
                return
            for subscriber, there in zip(subscribers, future.result(), strict=True):
                if not there:
                    subscriber.close(close_reasons.SIGNED_OUT)

        return checked

    def _read_again(self, subscribers: list[Subscriber]) -> None:
        if not self._failed:
            self.hub.loop.call_later(RETRY, self._read_failed)
        self._failed.update(subscribers)

    def _read_failed(self) -> None:
        failed, self._failed = self._failed, set()
        self.read(failed)
