"""The doorbell: hints that a stream or the job queue has something new. A ring names users, and may be lost.

It may carry what has changed (``streams.carrying``), but not through a channel layer.

Rings of this process arrive by a signal after each commit. Other processes are reached through the channel layer of the
settings if there is one, else PostgreSQL's NOTIFY, else the SQLite file.

channel_layer, postgres, sqlite  these three
other_processes                  what they share: messages, and the threads
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from django.core.signals import setting_changed

from notifications.db.supervised import SupervisedThread
from notifications.db.threads import NoThread
from notifications.db.transactions import connection
from notifications.db.unavailable import log_retried
from notifications.ids import process_number
from notifications.realtime.doorbell import channel_layer, postgres, sqlite
from notifications.signals import rung
from notifications.streams.carrying import Changes
from notifications.streams.rings import NO_CHANGES, merge

logger = logging.getLogger(__name__)

#: Called with user keys, which have what the ring carries, and whether the job queue has something new, from any
#: thread. It must not block.
Callback = Callable[[Changes, bool], None]

#: Seconds for which rings are collected into one call.
COALESCE_SECONDS = 0.005
#: Seconds between two attempts to start a thread that could not be started.
RESTART_INTERVAL_SECONDS = 1.0


Publisher = channel_layer.LayerPublisher | postgres.PostgresPublisher
Listener = channel_layer.LayerListener | postgres.PostgresListener | sqlite.SqliteListener


class Transport(NamedTuple):
    """How rings reach other processes. Without a publisher, these see them in the database.

    ``measure_round_trip``
        Returns the seconds that a message takes, and raises an error if it does not arrive.
    """

    name: str
    publisher: Publisher | None = None
    make_listener: Callable[[Callable[..., None]], Listener] | None = None
    measure_round_trip: Callable[[], float] | None = None


class Doorbell:
    """Calls callbacks for each ring. There is one per process; it listens to other processes while it has callbacks."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._callbacks: list[Callback] = []
        self._users: dict[Any, Any] = {}
        self._queue = False
        self._next_dispatch_at = 0.0
        self._dispatcher = SupervisedThread("notifications-doorbell", self._dispatch_later, is_limited=False)
        self._listener: Listener | None = None
        #: When to retry to start the listener (monotonic).
        self._restart_at = 0.0
        self._origin = f"{process_number():x}"
        self._transport: Transport | None = None
        self._logged_transport = ""

    @property
    def transport(self) -> Transport:
        """How rings reach other processes, which the first call chooses."""
        if self._transport is None:
            with self._lock:
                self._transport = self._transport or _choose_transport(self._origin)
        return self._transport

    def listen(self, callback: Callback) -> Callable[[], None]:
        """Call ``callback`` for every ring from now on. Returns a function that stops this.

        If the process has no thread or file descriptor to spare, the callback is registered all the same, and
        ``restart_missing()`` starts to listen to other processes later.
        """
        with self._lock:
            self._callbacks.append(callback)
            self._start_listener()

        def stop() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)
                listener = None if self._callbacks else self._listener
                if listener:
                    self._listener = None
            if listener:
                listener.stop()

        return stop

    def ring(self, users: Iterable[Any], *, queue: bool = False, changes: Changes = NO_CHANGES) -> None:
        """Call the callbacks: immediately if the last call was over 5 ms ago, else once for all rings of these 5 ms."""
        with self._lock:
            if not self._callbacks:
                return
            self._start_listener()
            merge(self._users, users, changes)
            self._queue = self._queue or queue
            is_soon = time.monotonic() < self._next_dispatch_at
        if is_soon:
            with contextlib.suppress(NoThread):
                self._dispatcher.wake()
                return
        self._dispatch()

    def ring_other_processes(
        self, users: Iterable[Any], *, queue: bool = False, changes: Changes = NO_CHANGES
    ) -> None:
        """Publish a ring to other processes, except on SQLite, where they see it in the file."""
        if publisher := self.transport.publisher:
            publisher.publish(users, queue, changes)

    def restart_missing(self) -> None:
        """Start to listen if that was not possible before, at most once per second. Hubs call this periodically."""
        with self._lock:
            self._start_listener()

    def flush(self) -> None:
        """Wait until pending rings are published to other processes, for at most a few seconds."""
        if self._transport and self._transport.publisher:
            self._transport.publisher.flush()

    def close(self) -> None:
        """Publish pending rings before the process exits. Takes at most a few seconds."""
        if self._transport and self._transport.publisher:
            self._transport.publisher.stop()

    def choose_again(self) -> None:
        """End the threads of the transport, which is chosen anew when it is needed next."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener:
            listener.stop()
        self.close()
        self._transport = None

    def log_transport(self) -> None:
        """Log the transport to other processes, once."""
        name = self.transport.name
        if name != self._logged_transport:
            logger.info("Doorbell: %s", name)
        self._logged_transport = name

    def _start_listener(self) -> None:
        if self._listener or not self._callbacks or time.monotonic() < self._restart_at:
            return
        try:
            if make_listener := self.transport.make_listener:
                self._listener = make_listener(self.ring)
            self.log_transport()
        except (NoThread, OSError) as exc:
            self._restart_at = time.monotonic() + RESTART_INTERVAL_SECONDS
            # Until then, the position check finds changes by other processes within 5 s.
            log_retried(logger, "Could not start the doorbell, which is tried again", exc, has_trace=False)

    def _dispatch_later(self) -> None:
        time.sleep(max(0.0, self._next_dispatch_at - time.monotonic()))
        self._dispatch()

    def _dispatch(self) -> None:
        with self._lock:
            users, queue = self._users, self._queue
            self._users, self._queue = {}, False
            self._next_dispatch_at = time.monotonic() + COALESCE_SECONDS
            callbacks = list(self._callbacks)
        if not users and not queue:
            return
        for callback in callbacks:
            try:
                callback(users, queue)
            except Exception:  # the other callbacks must still be called
                logger.exception("A doorbell callback failed.")


def _choose_transport(origin: str) -> Transport:
    if path := channel_layer.configured_path():
        listener: Any = partial(channel_layer.LayerListener, origin)
        publisher: Publisher = channel_layer.LayerPublisher(origin)
        return Transport(f"channel layer {path}", publisher, listener, channel_layer.measure_round_trip)
    if postgres.can_listen():
        listener = partial(postgres.PostgresListener, origin)
        publisher = postgres.PostgresPublisher(origin)
        return Transport(postgres.NAME, publisher, listener, postgres.measure_round_trip)
    if sqlite.can_watch():
        return Transport(sqlite.NAME, make_listener=sqlite.SqliteListener)
    vendor = connection().display_name
    return Transport(f"this process only; the position check finds changes by other processes ({vendor})")


doorbell = Doorbell()
# A forked process has neither the threads nor a usable lock of its parent. Its own callers listen again.
os.register_at_fork(after_in_child=lambda: Doorbell.__init__(doorbell))
atexit.register(doorbell.close)


listen, flush, restart_missing = doorbell.listen, doorbell.flush, doorbell.restart_missing


def _handle_rung(
    sender: Any, users: Iterable[Any], queue: bool, changes: Changes = NO_CHANGES, **kwargs: Any
) -> None:
    doorbell.ring(users, queue=queue, changes=changes)
    doorbell.ring_other_processes(users, queue=queue, changes=changes)


def _choose_again(*, setting: str, **kwargs: Any) -> None:
    if setting == "CHANNEL_LAYERS":
        doorbell.choose_again()


rung.connect(_handle_rung, dispatch_uid="notifications.doorbell")
setting_changed.connect(_choose_again)
