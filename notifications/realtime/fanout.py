"""Read what subscribers are missing, and deliver it as live frames or sync frames.

Changed users and subscribers that are behind are collected, read together in a thread, and delivered on the loop. There
is one read at a time, and its result is delivered before the next begins. So a subscriber that one read has caught up
is followed live from the next one on, and misses nothing in between.

A ring submits the read itself. By way of the loop, each message would need two more thread switches. What it carries is
sent without a read to the subscribers whose position it follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Any

from notifications import streams
from notifications.db.unavailable import log_retried
from notifications.realtime.connections import WatchedUser, WatchedUsers
from notifications.realtime.frames import Frame
from notifications.realtime.pool import ThreadPool
from notifications.realtime.reader import (
    ChangeRange,
    ReadRequest,
    ReadResult,
    read_changes,
)
from notifications.realtime.subscriber import Subscriber
from notifications.streams.carrying import CarriedChange, Changes
from notifications.tracing import spans

logger = logging.getLogger(__name__)

#: Seconds until a failed read is repeated.
RETRY_SECONDS = 1.0
#: Subscribers that one read catches up. Changes of others wait for that read: 0.1 s while 500 subscribers catch up 210
#: changes each, 9 s where one read took them all.
MAX_BEHIND_PER_READ = 20


class Fanout:
    """Deliver changes to the subscribers of ``users``.

    Reads run in ``read_pool``, the numbering before snapshots in ``write_pool``. ``handle_session_guards(guards)`` is
    called with the guards of the streams that were read, by user key. Methods are called on the loop unless they say
    otherwise.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        users: WatchedUsers,
        *,
        read_pool: ThreadPool,
        write_pool: ThreadPool,
        handle_session_guards: Callable[[dict[Any, int]], None],
    ) -> None:
        self._loop = loop
        self._users = users
        self._read_pool = read_pool
        self._write_pool = write_pool
        self._handle_session_guards = handle_session_guards
        self._lock = threading.Lock()  # of the next four, which threads of the doorbell and the pool use too
        self._changed_users: set[Any] = set()
        self._behind: set[Subscriber] = set()
        self._taken: tuple[set[Any], set[Subscriber]] = set(), set()  # of both, by the current read
        self._is_reading = False  # until the result is delivered
        self._unnumbered: set[Subscriber] = set()  # of these, the snapshot is read after numbering
        self._failed: set[Subscriber] = set()  # something of their users could not be read
        self._is_numbering = False
        self._sent_frames = 0

    def read_users(self, users: Iterable[Any]) -> None:
        """Deliver the changes of these watched user keys. Runs on any thread."""
        with self._lock:
            self._changed_users.update(users)
        self._read()

    def send_carried(self, changes: Changes) -> None:
        """Send changes that rings carry to the subscribers that they follow, and have them read for the others."""
        started, sent = spans.start_time(), self._sent_frames
        users = {key: user for key in changes if (user := self._users.get(key))}
        if unsent := [key for key, user in users.items() if not self._send_carried(user, changes[key])]:
            self.read_users(unsent)
        spans.record_push(started, frames=self._sent_frames - sent, users=len(users))

    def catch_up(self, subscriber: Subscriber) -> None:
        """Send a subscriber sync frames with what followed its position, if there is room for them."""
        if subscriber.is_closed or not subscriber.has_room():
            return
        if subscriber.needs_snapshot:
            self._unnumbered.add(subscriber)
            self._loop.call_soon(self._number)
        else:
            with self._lock:
                self._behind.add(subscriber)
            self._loop.call_soon(self._read)

    def restart(self, subscriber: Subscriber) -> None:
        """Stop following a subscriber live, and catch it up."""
        subscriber.stop_following()
        self.catch_up(subscriber)

    def retry_failed(self) -> None:
        """Catch up the subscribers of users that could not be read before."""
        while self._failed:
            self.catch_up(self._failed.pop())

    def forget(self, subscriber: Subscriber) -> None:
        """Read nothing more for a subscriber that has left."""
        with self._lock:
            self._behind.discard(subscriber)
        self._unnumbered.discard(subscriber)

    def _read(self) -> None:
        """Have a thread read what is missing, unless a read is not delivered yet. Runs on any thread."""
        with self._lock:
            if self._is_reading or not (self._changed_users or self._behind):
                return
            self._is_reading = True
        try:
            self._read_pool.submit(self._read_in_thread).add_done_callback(self._finish_read)
        except RuntimeError as exc:
            failed: Future[Any] = Future()
            failed.set_exception(exc)
            self._finish_read(failed)

    def _read_in_thread(self) -> tuple[ReadResult, int]:
        started = spans.start_time()
        with self._lock:
            behind = set(islice(self._behind, MAX_BEHIND_PER_READ))
            changed, self._changed_users = self._changed_users, set()
            self._behind -= behind
            self._taken = changed, behind
        request = self._build_request(changed | {subscriber.user for subscriber in behind}, behind)
        return read_changes(request), started

    def _finish_read(self, read: Future[tuple[ReadResult, int]]) -> None:
        # The loop may have been closed without close(); the next hub of this process then ends this one.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._handle_read, read)

    def _handle_read(self, read: Future[tuple[ReadResult, int]]) -> None:
        (changed, behind), self._taken = self._taken, (set(), set())
        error, sent = read.exception(), self._sent_frames
        if error is None:
            result, started = read.result()
            try:
                self._deliver(result, behind)
            finally:
                self._failed |= {
                    subscriber for subscriber in behind if subscriber.user in result.failed_users
                }
                with self._lock:
                    self._is_reading = False
                self._read()
            spans.record_push(started, frames=self._sent_frames - sent, users=len(result.positions))
            return
        # Retried after any error: without a new ring nothing else would read again.
        with self._lock:
            self._changed_users |= changed
            self._behind |= {subscriber for subscriber in behind if not subscriber.is_closed}
            self._is_reading = False
        self._loop.call_later(RETRY_SECONDS, self._read)
        log_retried(logger, "Could not read changes", error)

    def _build_request(self, keys: set[Any], behind: set[Subscriber]) -> ReadRequest:
        """Return what to read. Runs in the reading thread.

        A subscriber that the loop changes meanwhile, as a ``sync`` of its client does, is read again: its position is
        not in the result then.
        """
        request = ReadRequest()
        for key in keys:
            user = self._users.get(key)
            if user is None:
                continue
            cursors: set[int | None] = set()
            for subscriber in list(user.subscribers):
                if subscriber in behind:
                    cursors.add(None if subscriber.needs_snapshot else subscriber.position)
                    request.syncing_users.add(key)
                elif subscriber.is_synced and not subscriber.needs_sync:
                    cursors.add(subscriber.position)
                    request.known_versions[key] = user.versions
            if cursors:
                request.cursors[key] = cursors
        return request

    def _send_carried(self, user: WatchedUser, changes: Sequence[CarriedChange]) -> bool:
        """Return whether all subscribers that are followed live have these changes."""
        are_sent = True
        for epoch, guard, prev, seq, unread, unseen, items in changes:
            if guard != user.guard:  # sessions may have ended
                return False
            change_range = ChangeRange(prev=prev, seq=seq, unread=unread, unseen=unseen, items=[items])
            for subscriber in tuple(user.subscribers):
                if subscriber.is_synced and not subscriber.needs_sync:
                    if subscriber.position == prev and subscriber.epoch == epoch:
                        self._send_live(subscriber, change_range, [])
                    else:
                        are_sent = False
                elif subscriber in self._taken[1]:  # the read that catches it up may have begun before
                    are_sent = False
        return are_sent

    def _deliver(self, result: ReadResult, behind: set[Subscriber]) -> None:
        self._handle_session_guards({key: position.guard for key, position in result.positions.items()})
        for key, versions in result.versions.items():
            user = self._users.get(key)
            if user is None:
                continue
            job_frames = result.job_frames.get(key, [])
            head = result.positions[key].head
            position: int | None = None
            change_range: ChangeRange | None = None
            for subscriber in tuple(user.subscribers):
                if subscriber in behind:
                    self._send_sync(subscriber, result)
                elif subscriber.is_synced and not subscriber.needs_sync:
                    if subscriber.position != position:
                        position = subscriber.position
                        change_range = result.ranges.get((key, position))
                        if change_range is None and position < head:
                            # It was sent what a ring carried during the read. What follows is read next.
                            with self._lock:
                                self._changed_users.add(key)
                    self._send_live(subscriber, change_range, job_frames)
            user.versions = versions

    def _send_live(
        self, subscriber: Subscriber, change_range: ChangeRange | None, job_frames: list[Frame]
    ) -> None:
        """Send the changes after a live subscriber's position and the jobs that changed, while there is room."""
        if change_range and (change_range.reset or change_range.more):
            return self.restart(subscriber)
        if change_range and change_range.seq != change_range.prev:
            if not subscriber.deliver(change_range.change_frame()):
                return subscriber.stop_following()
            self._sent_frames += 1
            subscriber.position = change_range.seq
        for frame in job_frames:
            if not subscriber.deliver(frame):
                return subscriber.stop_following()
            self._sent_frames += 1

    def _send_sync(self, subscriber: Subscriber, result: ReadResult) -> None:
        """Send the next sync frame to a subscriber that is behind, or start again with a snapshot."""
        if subscriber.epoch is not None and subscriber.epoch != result.epoch:
            subscriber.needs_snapshot = True
        cursor = None if subscriber.needs_snapshot else subscriber.position
        change_range = result.ranges.get((subscriber.user, cursor))
        if change_range is None or change_range.reset:
            # The position has changed since the request, or cannot be followed.
            subscriber.needs_snapshot = subscriber.needs_snapshot or change_range is not None
            return self.catch_up(subscriber)
        assert result.epoch is not None
        frame, more = change_range.sync_frame(result.epoch, result.active_items[subscriber.user])
        subscriber.epoch = result.epoch
        if not subscriber.deliver(frame):
            return None  # its next acknowledgment makes room and catches it up
        self._sent_frames += 1
        subscriber.position = change_range.seq
        subscriber.needs_snapshot = False
        subscriber.needs_sync = more
        versions: Mapping[Any, int] = {} if more else result.versions[subscriber.user]
        subscriber.handle_synced(versions)
        if more:
            self.catch_up(subscriber)

    def _number(self) -> None:
        """Number pending changes before snapshots are read. Not in the read itself, because it may wait for a lock."""
        if self._is_numbering or not self._unnumbered:
            return
        subscribers, self._unnumbered = self._unnumbered, set()
        self._is_numbering = True

        def on_done(future: asyncio.Future[Any]) -> None:
            self._is_numbering = False
            if exc := future.exception():
                log_retried(logger, "Could not number changes before a snapshot", exc, level=logging.INFO)
            with self._lock:
                self._behind.update(subscriber for subscriber in subscribers if not subscriber.is_closed)
            self._read()
            self._number()

        keys = list({subscriber.user for subscriber in subscribers})
        self._write_pool.run(streams.number_if_needed, keys).add_done_callback(on_done)
