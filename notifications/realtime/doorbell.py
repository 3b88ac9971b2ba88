"""The doorbell: hints that a stream or the job queue has something new. They say who, never what, and may be lost.

Rings of this process come by a signal after each commit, those of others by what the database offers.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from notifications.realtime import doorbell_sqlite
from notifications.signals import rung

logger = logging.getLogger(__name__)

#: Called with the keys of users and whether the job queue has something new; from any thread. It must be quick.
Callback = Callable[[frozenset, bool], None]

#: Seconds in which rings are gathered into one call.
GATHER = 0.005
#: Rings of this process that are remembered, so as not to hear them again from the database.
REMEMBERED = 5_000


class Doorbell:
    """One for a process: ``listen`` to it. The file of a SQLite database is watched only while somebody does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callback] = []
        self._users: set[Any] = set()
        self._queue = False
        self._quiet_until = 0.0
        self._rung = threading.Event()
        self._gatherer: threading.Thread | None = None
        self._watcher: doorbell_sqlite.Watcher | None = None
        self._own: dict[int, None] = {}

    def listen(self, callback: Callback) -> Callable[[], None]:
        """Call ``callback`` for every ring from now on, until the function that is returned is called."""
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

    def ring(self, users: Iterable[Any], *, queue: bool = False, rings: Iterable[int] = ()) -> None:
        """Tell all listeners, at once if it was quiet for 5 ms, else together with what comes within these.

        ``rings``: ids of the rows of ``Ring`` that say the same to other processes.
        """
        with self._lock:
            if not self._callbacks:
                return
            self._remember(rings)
            self._users.update(users)
            self._queue = self._queue or queue
            if time.monotonic() < self._quiet_until:
                self._rung.set()
                return
        self._tell()

    def _start(self) -> None:
        if self._gatherer is None:
            self._gatherer = threading.Thread(target=self._gather, name="notifications-doorbell", daemon=True)
            self._gatherer.start()
        if self._watcher is None and doorbell_sqlite.can_watch():
            self._watcher = doorbell_sqlite.Watcher(self._heard)

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
            self._quiet_until = time.monotonic() + GATHER
            callbacks = list(self._callbacks)
        if not users and not queue:
            return
        for callback in callbacks:
            try:
                callback(users, queue)
            except Exception:  # one listener's error must not cost another its ring
                logger.exception("A listener of the doorbell failed.")

    def _remember(self, rings: Iterable[int]) -> None:
        for id in rings:
            self._own[id] = None
        while len(self._own) > REMEMBERED:
            del self._own[next(iter(self._own))]

    def _heard(self, rings: dict[int, Any]) -> None:
        with self._lock:
            foreign = [user for id, user in rings.items() if id not in self._own]
            for id in rings:
                self._own.pop(id, None)
        users = {user for user in foreign if user is not None}
        if foreign:
            self.ring(users, queue=None in foreign)


doorbell = Doorbell()
# Its threads, and perhaps a holder of its lock, are not there in a forked process; who listens there says so again.
os.register_at_fork(after_in_child=lambda: Doorbell.__init__(doorbell))


def listen(callback: Callback) -> Callable[[], None]:
    """Call ``callback(users, queue)`` for every ring from now on; returns what stops that. See Doorbell.listen()."""
    return doorbell.listen(callback)


def _signalled(
    sender: Any, users: Iterable[Any], queue: bool, rings: Iterable[int] = (), **kwargs: Any
) -> None:
    doorbell.ring(users, queue=queue, rings=rings)


rung.connect(_signalled, dispatch_uid="notifications.doorbell")
