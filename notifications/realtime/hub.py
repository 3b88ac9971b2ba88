"""The hub: connects the doorbell and the position check with the clients of this process.

There is one hub per event loop of a server. ``Fanout`` reads and sends what changed, ``SessionLookup`` authenticates
handshakes, ``SessionChecker`` closes clients that have signed out, and ``HubClock`` calls the periodic work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from weakref import WeakSet

from notifications.extension import Where
from notifications.jobs.claiming import unserved
from notifications.realtime import close_reasons, doorbell, freed_memory
from notifications.realtime.auth.handshakes import SessionLookup
from notifications.realtime.auth.sessions import find_deactivated, find_deleted
from notifications.realtime.auth.sign_outs import CredentialChecker, SessionChecker
from notifications.realtime.close_reasons import Bye
from notifications.realtime.connections import PositionCheck, ServerRow, WatchedUsers, check_positions
from notifications.realtime.fanout import Fanout
from notifications.realtime.feeds import Feeds
from notifications.realtime.pool import SHUTDOWN_TIMEOUT_SECONDS, HubClock, ThreadPool
from notifications.realtime.subscriber import Subscriber
from notifications.streams.carrying import Changes
from notifications.streams.positions import NO_STREAM
from notifications.upkeep import Upkeep

#: Ticks of the clock, which are seconds, between two position checks, and between two checks of all sessions.
POSITION_CHECK_TICKS = 5
SESSION_CHECK_TICKS = 60
#: Between two searches for deactivated users, who are closed within 5 s.
ACTIVE_CHECK_TICKS = 4
#: Seconds for which a duty of the upkeep changes rows, once a second. Its thread also numbers what new clients are
#: shown.
MAX_DUTY_SECONDS = 0.05
#: Seconds that ``close()`` waits for clients to disconnect, and then for waiting requests to be answered.
CLOSE_TIMEOUT_SECONDS = 1.0
ANSWER_TIMEOUT_SECONDS = 5.0


class Hub:
    """``join()`` and ``leave()`` with a subscriber, ``catch_up()`` one that is behind, ``close()`` all."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.query_pool = ThreadPool("hub", 3)
        # For session stores and authentication backends of the project only, which may be silent.
        self.auth_pool = ThreadPool("auth", 2)
        # Separate, because writes may wait for a lock for as long as the database allows; handshakes must not.
        self.write_pool = ThreadPool("numbers", 1)
        self._upkeep = Upkeep(Where.SERVER, seconds=MAX_DUTY_SECONDS)
        self.session_lookup = SessionLookup(self.auth_pool)
        self.users = WatchedUsers()
        #: Tasks of requests that wait for a job. They are answered when the server stops.
        self.waiting_requests: WeakSet[asyncio.Task[Any]] = WeakSet()
        self.stopping = asyncio.Event()
        #: Users without a stream, who may have been deleted since it was last looked for them.
        self._maybe_deleted: set[Any] = set()
        self._stop_listening: Callable[[], None] | None = None
        self._server_row = ServerRow()
        self._session_checker = SessionChecker(loop, self.auth_pool, self.users.subscribers)
        self._credential_checker = CredentialChecker(loop, self.users.subscribers)
        self._fanout = Fanout(
            loop,
            self.users,
            read_pool=self.query_pool,
            write_pool=self.write_pool,
            handle_session_guards=self._handle_session_guards,
        )
        self.feeds = Feeds(loop, self.query_pool)
        self._freed_memory = freed_memory.FreedMemory()
        self._clock = HubClock(loop, self._handle_tick)

    def join(self, subscriber: Subscriber) -> Bye | None:
        """Register a subscriber. Its position must be read after this, or changes in between would be lost.

        Returns the reason to refuse it: its user has too many sockets, or the server is stopping.
        """
        if self.stopping.is_set():
            return close_reasons.GOING_AWAY
        if bye := self.users.add(subscriber):
            return bye
        self._session_checker.start_searching()
        if self.users[subscriber.user].guard is not None:
            self._session_checker.schedule([subscriber])
        if self._stop_listening is None:
            self._stop_listening = doorbell.listen(self._handle_ring)
        return None

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a subscriber. Has no effect on one that has left."""
        if not self.users.remove(subscriber):
            return
        self._fanout.forget(subscriber)
        if not self.users and self._stop_listening:
            # In a thread, because it waits for the listening thread.
            stop, self._stop_listening = self._stop_listening, None
            self.write_pool.run(stop).add_done_callback(lambda future: future.exception() and stop())

    def catch_up(self, subscriber: Subscriber) -> None:
        """Send a subscriber what followed its position, as soon as it can be read and there is room for it."""
        self._fanout.catch_up(subscriber)

    def check_credentials(self, user: Any) -> None:
        """Ask authenticators whether they still accept the unconfirmed clients of a user (key)."""
        self._credential_checker.check(user)

    def subscribers(self, users: Iterable[Any] | None = None) -> list[Subscriber]:
        """Return all subscribers, or those of these user keys."""
        return self.users.subscribers(users)

    async def close(self) -> None:
        """Close all clients, wait until they have disconnected and requests are answered, and end the threads.

        From now on ``join()`` refuses subscribers.
        """
        self._clock.stop()
        self.stopping.set()
        subscribers = self.subscribers()
        for subscriber in subscribers:
            subscriber.close(close_reasons.GOING_AWAY)
        if tasks := [subscriber.task for subscriber in subscribers]:
            await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT_SECONDS)
        if requests := set(self.waiting_requests):
            await asyncio.wait(requests, timeout=ANSWER_TIMEOUT_SECONDS)
        # Otherwise the row is listed until its lease is over.
        await asyncio.wait([self.write_pool.run(self._server_row.remove)], timeout=CLOSE_TIMEOUT_SECONDS)
        self.end_threads()

    def end_threads(self) -> None:
        """Stop listening and end the threads. Sufficient for a hub whose loop is closed."""
        if self._stop_listening:
            self._stop_listening()
            self._stop_listening = None
        deadline = time.monotonic() + SHUTDOWN_TIMEOUT_SECONDS
        threads = [*self.query_pool.close(), *self.auth_pool.close(), *self.write_pool.close()]
        for thread in [*threads, *self._credential_checker.end_threads()]:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._upkeep.project_threads.end(max(0.0, deadline - time.monotonic()))

    def _handle_ring(self, users: Changes, queue: bool = False) -> None:
        """Have changes of users sent that the ring carries, and the others read. Runs on any thread."""
        watched = {key: user for key in users if (user := self.users.get(key))}
        carried = {key: users[key] for key in watched if users[key]}
        # The loop may have been closed without close(); the next hub of this process then ends this one.
        with contextlib.suppress(RuntimeError):
            if any(user.guard is None or key in self.feeds for key, user in watched.items()):
                self.loop.call_soon_threadsafe(self._handle_ring_on_loop, list(watched))
            if carried:
                self.loop.call_soon_threadsafe(self._fanout.send_carried, carried)
        if len(carried) < len(watched):
            self._fanout.read_users(watched.keys() - carried.keys())

    def _handle_ring_on_loop(self, keys: list[Any]) -> None:
        # Without a known guard, a ring is the only sign that sessions may have ended.
        without_guard = [key for key in keys if key in self.users and self.users[key].guard is None]
        self._session_checker.schedule(self.subscribers(without_guard))
        self.feeds.read_users(keys)

    def _handle_session_guards(self, guards: dict[Any, int]) -> None:
        """Check sessions of users whose guard has changed, and of those who joined before their guard was known.

        A first notification creates a stream with guard 0, a sign-out creates it with 1 or raises it, and a purge of
        the stream changes it to that of ``NO_STREAM``: only the first of them ends no session. But the deletion of a
        user who has no stream changes no guard, also if a notification creates the stream after it: the next tick
        looks for such users.
        """
        changed = []
        for key, guard in guards.items():
            user = self.users.get(key)
            if user is None:
                continue
            if user.guard == NO_STREAM.guard and guard in (NO_STREAM.guard, 0):
                self._maybe_deleted.add(key)
            elif user.guard is None:
                self._session_checker.schedule(user.subscribers)
            elif user.guard != guard:
                changed.append(key)
            user.guard = guard
        self._session_checker.check_changed_sessions(changed)

    def _handle_tick(self, ticks: int) -> None:
        now = self.loop.time()
        subscribers = self.subscribers()
        for subscriber in subscribers:
            subscriber.handle_tick(now)
        doorbell.restart_missing()
        self._session_checker.run_scheduled()
        run_in = self._clock.run_in
        message = "Could not maintain jobs and streams, which is tried again"
        run_in(self.write_pool, self._upkeep.run_round, error_message=message)
        if users := list(self._maybe_deleted):
            run_in(
                self.query_pool,
                find_deleted,
                users,
                on_result=partial(self._handle_deleted, users),
                error_message="Could not find deleted users",
                level=logging.WARNING,
            )
        if ticks % POSITION_CHECK_TICKS == 1:
            run_in(
                self.write_pool,
                self._server_row.renew,
                len(subscribers),
                len(self.users),
                error_message="Could not store the number of sockets",
            )
        if ticks % POSITION_CHECK_TICKS == 0:
            self.feeds.read_all()
            run_in(
                self.query_pool,
                unserved.warn_of_unserved_jobs,
                error_message="Could not look for unserved jobs",
            )
            if self.users:
                run_in(
                    self.query_pool,
                    check_positions,
                    list(self.users),
                    on_result=self._handle_positions,
                    error_message="Could not check positions",
                    level=logging.WARNING,
                )
        if ticks % ACTIVE_CHECK_TICKS == 0 and self.users:
            run_in(
                self.query_pool,
                find_deactivated,
                list(self.users),
                on_result=self._close_users,
                error_message="Could not find deactivated users",
                level=logging.WARNING,
            )
        if self._freed_memory.is_due(len(subscribers)):
            message = "Could not give free memory back"
            run_in(self.query_pool, freed_memory.give_back, error_message=message)
        if ticks % SESSION_CHECK_TICKS == 0:
            self._session_checker.check(self.subscribers())

    def _handle_deleted(self, searched: list[Any], deleted: list[Any]) -> None:
        self._maybe_deleted.difference_update(searched)
        self._session_checker.check(self.subscribers(deleted))

    def _close_users(self, users: list[Any]) -> None:
        for subscriber in self.subscribers(users):
            subscriber.close(close_reasons.SIGNED_OUT)

    def _handle_positions(self, checked: PositionCheck) -> None:
        """Catch up the subscribers that lost rings have left behind, and those whose last read failed."""
        self._fanout.retry_failed()
        for subscriber in self.subscribers():
            # Each compares its own epoch: one that joined after a restore may have the new epoch already.
            if subscriber.is_started and not subscriber.needs_sync and subscriber.epoch != checked.epoch:
                self._fanout.restart(subscriber)
        self._handle_session_guards({key: position.guard for key, position in checked.positions.items()})
        for key, position in checked.positions.items():
            user = self.users.get(key)
            if user is None:
                continue
            active_sums = checked.active_sums.get(key, (0, 0))
            has_missed_ring = active_sums != user.active_sums or any(
                subscriber.position != position.head
                for subscriber in user.subscribers
                if subscriber.is_synced and not subscriber.needs_sync
            )
            if has_missed_ring:
                user.active_sums = active_sums
                self._handle_ring({key: ()})


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def current_hub() -> Hub:
    """Return the hub of the running event loop. The first call creates it."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None:
        for closed_loop in [other for other in _hubs if other.is_closed()]:
            _hubs.pop(closed_loop).end_threads()
        hub = _hubs[loop] = Hub(loop)
    return hub


def forget_closed_hub() -> None:
    """Forget the hub of the running event loop if it is closed, so that a server that starts again gets a new one."""
    loop = asyncio.get_running_loop()
    if loop in _hubs and _hubs[loop].stopping.is_set():
        del _hubs[loop]


async def close_current_hub() -> None:
    """Close the hub of the running event loop, if there is one.

    It stays the hub of this loop, so that later requests are refused. A new hub would never be closed, and the server
    would wait for such a request until it is killed.
    """
    if hub := _hubs.get(asyncio.get_running_loop()):
        await hub.close()
