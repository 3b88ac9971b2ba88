"""The hub: turns rings into frames for the clients connected to this process. One for each event loop of a server.

    ring -> dirty -> look (a thread, all users together) -> apply -> deliver

One look is under way at a time, and what it found is applied before the next begins. So whoever was caught up by a look
is followed live from the next one on, and misses nothing in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakSet

from django.db import Error as DatabaseFault

from notifications.conf import settings
from notifications.realtime import close_reasons, doorbell
from notifications.realtime.auth.handshakes import SessionLookup
from notifications.realtime.auth.signout import SignOut
from notifications.realtime.clock import Clock
from notifications.realtime.close_reasons import Bye
from notifications.realtime.frames import Frame
from notifications.realtime.pool import SHUTDOWN_TIMEOUT_SECONDS, Pool
from notifications.realtime.position_check import PositionCheck
from notifications.realtime.reader import ChangeRange, ReadRequest, ReadResult, number_first, read_changes
from notifications.realtime.subscriber import Subscriber
from notifications.streams.changes import NO_STREAM

logger = logging.getLogger(__name__)

#: Seconds after a question that the database did not answer.
RETRY_SECONDS = 1.0
#: Seconds that the end of the server waits for clients to go, and after that for requests to be answered.
CLOSE_TIMEOUT_SECONDS = 1.0
ANSWER_WITHIN_SECONDS = 5.0


class WatchedUser:
    """What the hub holds of a user: who is connected, and the versions of active jobs that were shown last."""

    __slots__ = ("guard", "sockets", "subscribers", "sums", "versions")

    def __init__(self) -> None:
        self.subscribers: dict[Subscriber, None] = {}  # in the order of their coming
        self.sockets = 0  # how many of them count for the limit
        self.versions: dict[Any, int] = {}
        self.sums: tuple[int, int] = (0, 0)
        self.guard: int | None = None  # not known yet


class Hub:
    """``join`` and ``leave`` with a Subscriber; ``read_up`` one that has fallen behind; ``close`` all."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.questions = Pool("hub", 2)
        self.auth_pool = Pool("auth", 2)
        self.door = SessionLookup(self.auth_pool)
        # Of its own: numbering may wait for a lock as long as the database lets it, and nobody at the door must.
        self.numbers = Pool("numbers", 1)
        self.users: dict[Any, WatchedUser] = {}
        #: Tasks of requests that wait for a job, and must be answered when the server stops.
        self.waiting: WeakSet[asyncio.Task[Any]] = WeakSet()
        self.ending = asyncio.Event()
        self.signout = SignOut(self)
        self._dirty: set[Any] = set()
        self._behind: set[Subscriber] = set()
        self._unnumbered: set[Subscriber] = set()
        self._failed: set[Subscriber] = set()  # something about their users could not be read
        self._looking = self._numbering = False
        self._stop_listening: Callable[[], None] | None = None
        self._clock = Clock(self)

    def join(self, subscriber: Subscriber) -> Bye | None:
        """Register a subscriber before anything is read for it.

        Returns None, or the reason why it was not registered: too many sockets, or the server is stopping.
        """
        if self.ending.is_set():
            return close_reasons.GOING_AWAY
        watch = self.users.get(subscriber.user) or WatchedUser()
        if subscriber.is_socket and watch.sockets >= settings.SOCKETS_PER_USER:
            return close_reasons.TOO_MANY_SOCKETS
        self.users[subscriber.user] = watch
        watch.subscribers[subscriber] = None
        watch.sockets += subscriber.is_socket
        if watch.guard is not None:
            self.signout.joined([subscriber])
        if self._stop_listening is None:
            self._stop_listening = doorbell.listen(self._rung)
        return None

    def leave(self, subscriber: Subscriber) -> None:
        """Forget a subscriber; once or more often."""
        watch = self.users.get(subscriber.user)
        if watch is None or subscriber not in watch.subscribers:
            return
        del watch.subscribers[subscriber]
        watch.sockets -= subscriber.is_socket
        self._behind.discard(subscriber)
        self._unnumbered.discard(subscriber)
        if not watch.subscribers:
            del self.users[subscriber.user]
        if not self.users and self._stop_listening:
            # In a thread: the watcher is waited for.
            stop, self._stop_listening = self._stop_listening, None
            self.numbers.run(stop).add_done_callback(lambda stopped: stopped.exception() and stop())

    def read_up(self, subscriber: Subscriber) -> None:
        """Send a subscriber what followed its position, as soon as it can be read and there is room for it."""
        if subscriber.closed or not subscriber.has_room():
            return
        if subscriber.reset:
            self._unnumbered.add(subscriber)
            self.loop.call_soon(self._number)
        else:
            self._behind.add(subscriber)
            self.loop.call_soon(self._look)

    def subscribers(self, users: Iterable[Any] | None = None) -> list[Subscriber]:
        """Return all subscribers, or those of some users (keys)."""
        watches = self.users.values() if users is None else filter(None, map(self.users.get, users))
        return [subscriber for watch in watches for subscriber in watch.subscribers]

    async def close(self) -> None:
        """Say goodbye to all, wait until they have gone and requests are answered, and end the threads.

        Nothing joins any more: ``join`` returns the reason from now on.
        """
        self._clock.stop()
        self.ending.set()
        subscribers = self.subscribers()
        for subscriber in subscribers:
            subscriber.close(close_reasons.GOING_AWAY)
        if leaving := [subscriber.task for subscriber in subscribers]:
            await asyncio.wait(leaving, timeout=CLOSE_TIMEOUT_SECONDS)
        if waiting := set(self.waiting):
            await asyncio.wait(waiting, timeout=ANSWER_WITHIN_SECONDS)
        self.end()

    def end(self) -> None:
        """End the threads; all there is to do once the loop is closed."""
        if self._stop_listening:
            self._stop_listening()
            self._stop_listening = None
        until = time.monotonic() + SHUTDOWN_TIMEOUT_SECONDS
        for thread in [*self.questions.close(), *self.auth_pool.close(), *self.numbers.close()]:
            thread.join(max(0.0, until - time.monotonic()))

    # Rings and looks

    def _rung(self, users: frozenset, queue: bool) -> None:
        # The loop may have been closed without a goodbye; the next hub of this process ends this one.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._ring, users)

    def _ring(self, users: Iterable[Any]) -> None:
        current_hub = [user for user in users if user in self.users]
        self._dirty.update(current_hub)
        self._doubt(current_hub)
        self._look()

    def _look(self) -> None:
        if self._looking or not (self._dirty or self._behind):
            return
        behind, self._behind = self._behind, set()
        dirty, self._dirty = self._dirty, set()
        wanted = self._wanted(dirty | {subscriber.user for subscriber in behind}, behind)
        if not wanted.cursors:
            return
        self._looking = True

        def looked(future: asyncio.Future) -> None:
            self._looking = False
            try:
                seen = future.result()
            except Exception as exc:  # asked again, whatever it was: nobody else would
                logger.warning("The hub could not read: %s", exc, exc_info=not isinstance(exc, DatabaseFault))
                self._dirty |= dirty
                self._behind |= {subscriber for subscriber in behind if not subscriber.closed}
                self.loop.call_later(RETRY_SECONDS, self._look)
                return
            self._apply(seen, behind)
            self._failed |= {subscriber for subscriber in behind if subscriber.user in seen.failed}
            self._look()

        self.questions.run(read_changes, wanted).add_done_callback(looked)

    def _wanted(self, users: set[Any], behind: set[Subscriber]) -> ReadRequest:
        wanted = ReadRequest()
        for user in users:
            watch = self.users.get(user)
            if watch is None:
                continue
            cursors: set[int | None] = set()
            live = False
            for subscriber in watch.subscribers:
                if subscriber in behind:
                    cursors.add(None if subscriber.reset else subscriber.pos)
                    wanted.starting.add(user)
                elif not subscriber.owed and subscriber.synced:
                    cursors.add(subscriber.pos)
                    live = True
            if live:
                wanted.known[user] = watch.versions
            if cursors:
                wanted.cursors[user] = cursors
        return wanted

    def _apply(self, seen: ReadResult, behind: set[Subscriber]) -> None:
        self._notice_guards({user: position.guard for user, position in seen.positions.items()})
        for user, versions in seen.versions.items():
            watch = self.users.get(user)
            if watch is None:
                continue
            jobs = seen.jobs.get(user, [])
            pos: int | None = None
            span: ChangeRange | None = None
            for subscriber in tuple(watch.subscribers):
                if subscriber in behind:
                    self._catch_up(subscriber, seen)
                elif not subscriber.owed and subscriber.synced:
                    if subscriber.pos != pos:
                        pos = subscriber.pos
                        span = seen.spans.get((user, pos))
                    if span is not None:
                        self._follow(subscriber, span, jobs)
            watch.versions = versions

    def _follow(self, subscriber: Subscriber, span: ChangeRange, jobs: list[Frame]) -> None:
        """Send a live subscriber the span that follows its position and the jobs that changed, while it has room."""
        if span.reset or span.more:
            return self._fall_behind(subscriber)
        if span.seq != span.prev:
            if not subscriber.deliver(span.change()):
                return subscriber.lag()
            subscriber.pos = span.seq
        for frame in jobs:
            if not subscriber.deliver(frame):
                return subscriber.lag()

    def _fall_behind(self, subscriber: Subscriber) -> None:
        subscriber.lag()
        self.read_up(subscriber)

    def _catch_up(self, subscriber: Subscriber, seen: ReadResult) -> None:
        """Send somebody who is owed a sync frame the next one, or start it anew."""
        if subscriber.epoch is not None and subscriber.epoch != seen.epoch:
            subscriber.reset = True
        span = seen.spans.get((subscriber.user, None if subscriber.reset else subscriber.pos))
        if span is None or span.reset:
            # Its position has moved meanwhile, or it cannot be followed.
            subscriber.reset = subscriber.reset or span is not None
            return self.read_up(subscriber)
        self._send_sync(subscriber, span, seen)

    def _send_sync(self, subscriber: Subscriber, span: ChangeRange, seen: ReadResult) -> None:
        assert seen.epoch is not None
        frame, more = span.sync(seen.epoch, seen.active[subscriber.user])
        subscriber.epoch = seen.epoch
        if not subscriber.deliver(frame):
            return  # it lags; its next ack reads it up
        subscriber.pos = span.seq
        subscriber.reset = False
        subscriber.owed = more
        subscriber.caught_up({} if more else seen.versions[subscriber.user])
        if more:
            self.read_up(subscriber)

    def _number(self) -> None:
        """Number the users of those who start from a snapshot, apart from the looks: it may have to wait for a lock."""
        if self._numbering or not self._unnumbered:
            return
        fresh, self._unnumbered = self._unnumbered, set()
        self._numbering = True

        def numbered(future: asyncio.Future) -> None:
            self._numbering = False
            if future.exception():
                logger.info("Streams were not numbered before a snapshot: %s", future.exception())
            self._behind.update(subscriber for subscriber in fresh if not subscriber.closed)
            self._look()
            self._number()

        users = list({subscriber.user for subscriber in fresh})
        self.numbers.run(number_first, users).add_done_callback(numbered)

    # The position check, and sign-out

    def repair(self, checked: PositionCheck) -> None:
        """Read up whom a lost ring did not tell, and those whose last look failed."""
        while self._failed:
            self.read_up(self._failed.pop())
        for subscriber in self.subscribers():
            # Each by its own: whoever came after a restore has the new epoch before this check.
            if subscriber.greeted and not subscriber.owed and subscriber.epoch != checked.epoch:
                self._fall_behind(subscriber)
        self._notice_guards({user: position.guard for user, position in checked.positions.items()})
        # Who was deleted without ever having had a stream leaves no guard that moves.
        self.signout.without_guard([user for user, at in checked.positions.items() if at == NO_STREAM])
        for user, position in checked.positions.items():
            watch = self.users.get(user)
            if watch is None:
                continue
            sums = checked.sums.get(user, (0, 0))
            live = [
                subscriber for subscriber in watch.subscribers if subscriber.synced and not subscriber.owed
            ]
            if sums != watch.sums or any(subscriber.pos != position.head for subscriber in live):
                watch.sums = sums
                self._ring([user])

    def _doubt(self, users: Iterable[Any]) -> None:
        """Have sessions read again where no guard tells: none was read yet, or there is no stream, which is how a
        deleted user looks."""
        silent = (None, NO_STREAM.guard)
        unsure = [user for user in users if (watch := self.users.get(user)) and watch.guard in silent]
        self.signout.joined(self.subscribers(unsure))

    def _notice_guards(self, guards: dict[Any, int]) -> None:
        moved = []
        for user, guard in guards.items():
            watch = self.users.get(user)
            if watch is None or watch.guard == guard:
                continue
            if watch.guard is None:
                self.signout.joined(watch.subscribers)
            else:
                moved.append(user)
            watch.guard = guard
        self.signout.moved(moved)


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def current_hub() -> Hub:
    """Return the hub of the running event loop; made when it is first asked for."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None:
        for ended in [other for other in _hubs if other.is_closed()]:
            _hubs.pop(ended).end()
        hub = _hubs[loop] = Hub(loop)
    return hub


def forget_closed_here() -> None:
    """Let the running event loop have a new hub, if its own was closed: the server starts once more."""
    loop = asyncio.get_running_loop()
    if loop in _hubs and _hubs[loop].ending.is_set():
        del _hubs[loop]


async def close_current_hub() -> None:
    """Close the hub of the running event loop, if there is one.

    It stays the hub of this loop, so that a request that comes later is sent away: a new hub would never be closed, and
    the server would wait for the request until it is killed.
    """
    if hub := _hubs.get(asyncio.get_running_loop()):
        await hub.close()
