"""The doorbell: hints that a stream or the job queue has something new. They say who, never what, and may be lost.

Rings of this process come by a signal after each commit. To and from other processes they go by the channel layer of
the settings, else by PostgreSQL's NOTIFY, else by the SQLite file.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from notifications.db.threads import NoThread, start_thread
from notifications.db.transactions import connection
from notifications.ids import process
from notifications.realtime.doorbell import layer as doorbell_layer
from notifications.realtime.doorbell import postgres, sqlite
from notifications.signals import rung

logger = logging.getLogger(__name__)

#: Called with the keys of users and whether the job queue has something new; from any thread. It must be quick.
Callback = Callable[[frozenset, bool], None]

#: Seconds in which rings are gathered into one call.
COALESCE_SECONDS = 0.005
#: Seconds between two attempts to start what could not be started.
RESTART_INTERVAL_SECONDS = 1.0


class Listener(Protocol):
    """Hears other processes from soon after it is made, while it is ``hearing``, until ``stop()``."""

    @property
    def hearing(self) -> bool: ...

    def stop(self) -> None: ...


class Doorbell:
    """One for a process: ``listen`` to it. Other processes are heard only while somebody does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callback] = []
        self._users: set[Any] = set()
        self._queue = False
        self._quiet_until = 0.0
        self._rung = threading.Event()
        self._gatherer: threading.Thread | None = None
        self._watcher: Listener | None = None
        #: When to start again what could not be started; None if nothing is missing.
        self._restart_at: float | None = None
        self._name = f"{process():x}"
        self._layer = doorbell_layer.LayerPublisher(self._name)
        self._postgres = postgres.PostgresPublisher(self._name)
        self._announced = ""

    def listen(self, callback: Callback) -> Callable[[], None]:
        """Call ``callback`` for every ring from now on, until the function that is returned is called.

        If the process has no thread or file to spare, the callback is registered all the same, and other processes are
        heard as soon as it has: see ``restart_missing``.
        """
        with self._lock:
            self._callbacks.append(callback)
            self._start()

        def stop() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)
                watcher = None if self._callbacks else self._watcher
                if watcher:
                    self._watcher = None
            if watcher:
                watcher.stop()

        return stop

    def ring(self, users: Iterable[Any], *, queue: bool = False) -> None:
        """Tell all listeners, at once if it was quiet for 5 ms, else together with what comes within these."""
        with self._lock:
            if not self._callbacks:
                return
            self._restart_missing()
            self._users.update(users)
            self._queue = self._queue or queue
            if self._gatherer and time.monotonic() < self._quiet_until:
                self._rung.set()
                return
        self._tell()

    def ring_elsewhere(self, users: Iterable[Any], *, queue: bool = False) -> None:
        """Tell the listeners of other processes, unless they see it in the SQLite file."""
        if doorbell_layer.configured():
            self._layer.say(users, queue)
        elif postgres.can_listen():
            self._postgres.say(users, queue)

    def restart_missing(self) -> None:
        """Start the threads that could not be started before, at most once a second. Hubs call this by the clock."""
        with self._lock:
            self._restart_missing()

    def end(self) -> None:
        """Tell what waits to be told, and say no more: the process ends."""
        self._layer.stop()
        self._postgres.stop()

    def announce(self) -> None:
        """Say once in the log by which way other processes are heard."""
        way = transport_name()
        if way != self._announced:
            logger.info("Doorbell: %s", way)
        self._announced = way

    def _start(self) -> None:
        was_missing = self._restart_at is not None
        self._restart_at = None
        try:
            if self._gatherer is None:
                self._gatherer = start_thread(self._gather, "notifications-doorbell")
            if self._watcher is None:
                self._watcher = self._watch()
                self.announce()
        except (NoThread, OSError) as exc:
            self._restart_at = time.monotonic() + RESTART_INTERVAL_SECONDS
            if not was_missing:
                logger.warning(
                    "Could not start the doorbell, which is tried again each second: %s "
                    "Meanwhile the position check brings what other processes did, within 5 s.",
                    exc,
                )

    def _restart_missing(self) -> None:
        if self._callbacks and self._restart_at is not None and time.monotonic() >= self._restart_at:
            self._start()

    def _watch(self) -> Listener | None:
        if doorbell_layer.configured():
            return doorbell_layer.LayerListener(self._name, self.ring)
        if postgres.can_listen():
            return postgres.PostgresListener(self._name, self.ring)
        if sqlite.can_watch():
            return sqlite.SqliteListener(self.ring)
        return None

    def _gather(self) -> None:
        while True:
            self._rung.wait()
            self._rung.clear()
            time.sleep(max(0.0, self._quiet_until - time.monotonic()))
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            users, queue = frozenset(self._users), self._queue
            self._users.clear()
            self._queue = False
            self._quiet_until = time.monotonic() + COALESCE_SECONDS
            callbacks = list(self._callbacks)
        if not users and not queue:
            return
        for callback in callbacks:
            try:
                callback(users, queue)
            except Exception:  # one listener's error must not cost another its ring
                logger.exception("A listener of the doorbell failed.")


doorbell = Doorbell()
# Its threads, and perhaps a holder of its lock, are not there in a forked process; who listens there says so again.
os.register_at_fork(after_in_child=lambda: Doorbell.__init__(doorbell))
atexit.register(doorbell.end)


def listen(callback: Callback) -> Callable[[], None]:
    """Call ``callback(users, queue)`` for every ring from now on; returns what stops that. See Doorbell.listen()."""
    return doorbell.listen(callback)


def restart_missing() -> None:
    """Start the threads that could not be started before. See Doorbell.restart_missing()."""
    doorbell.restart_missing()


def transport_name() -> str:
    """Return by which way other processes are heard, in words."""
    if layer := doorbell_layer.configured():
        return f"channel layer {layer}"
    if postgres.can_listen():
        return postgres.NAME
    if sqlite.can_watch():
        return sqlite.NAME
    return f"this process only; others' news come by the position check ({connection().vendor})"


def _signalled(sender: Any, users: Iterable[Any], queue: bool, **kwargs: Any) -> None:
    doorbell.ring(users, queue=queue)
    doorbell.ring_elsewhere(users, queue=queue)


rung.connect(_signalled, dispatch_uid="notifications.doorbell")
