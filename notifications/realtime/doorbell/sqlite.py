"""Rings from other processes on SQLite: a thread that watches whether the file was changed.

``PRAGMA data_version`` costs a few microseconds and moves with any commit of another connection. Then only the rings
after the last one are read, so the cost does not grow with the number of users that are watched. On Linux the watcher
sleeps until somebody writes to the file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from notifications.db.threads import start
from notifications.db.transactions import connection
from notifications.ids import process
from notifications.models import Stream
from notifications.realtime.doorbell.inotify import Inotify

logger = logging.getLogger(__name__)

NAME = "SQLite file"
#: Seconds between two looks, and between those that are only to be sure.
EVERY, CALM = 0.002, 0.02
#: A write is told before its commit can be seen. So often, with so many seconds in between, it is looked for at once;
#: then for a while as often as where no write is told.
AT_ONCE, APART, RESTLESS = 5, 0.0002, 0.1
#: Seconds between two looks at which file it is, and after an error.
IDENTITY_CHECK_SECONDS = 1.0
#: Seconds that the end waits for the thread.
STOP_TIMEOUT_SECONDS = 5.0


class SqliteListener:
    """Calls ``heard(users, queue=…)`` from a thread of its own with what other processes committed since it started.

    Missing some (a busy database, a file put in its place) is allowed: rings are hints.
    """

    def __init__(self, heard: Callable[..., None]) -> None:
        self._heard = heard
        self.last = 0  # the id of the last ring that was read
        self.file: tuple[int, int] | None = None  # which one it is, whatever its name
        self._version = 0
        self._restless = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="notifications-doorbell-sqlite", daemon=True)
        start(self._thread)

    @property
    def hearing(self) -> bool:
        return self.file is not None

    def stop(self) -> None:
        """End the thread and its connection. Does not wait when called by the thread itself."""
        self._ended.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(STOP_TIMEOUT_SECONDS)

    def _watch(self) -> None:
        while not self._ended.is_set():
            try:
                self._watch_file()
            except Exception as exc:  # the boundary of a thread that must not end
                logger.warning("The watcher of the SQLite file starts again after: %s", exc)
                self._ended.wait(IDENTITY_CHECK_SECONDS)
            finally:
                with contextlib.suppress(Exception):  # it is broken already
                    connection().close()

    def _watch_file(self) -> None:
        """Watch until the end, an error, or until another file stands in this one's place."""
        db = connection()
        db.ensure_connection()
        path = str(db.settings_dict["NAME"])
        ask = db.connection.execute
        self._version = 0  # that of another connection says nothing about this one
        self.last = ask("SELECT coalesce(max(id), 0) FROM notifications_ring").fetchone()[0]
        self.file = _identity(path)
        with _writes(path) as writes:
            look_again = time.monotonic() + IDENTITY_CHECK_SECONDS
            while not self._ended.is_set():
                self._look(ask, writes)
                if time.monotonic() > look_again:
                    if _identity(path) != self.file:
                        return
                    look_again = time.monotonic() + IDENTITY_CHECK_SECONDS

    def _look(self, ask: Callable[..., sqlite3.Cursor], writes: Inotify | None) -> None:
        """Wait for a moment in which somebody may have committed, and read if somebody has."""
        told = False
        if writes is None:
            time.sleep(EVERY)
        elif told := writes.wait(EVERY if time.monotonic() < self._restless else CALM):
            self._restless = time.monotonic() + RESTLESS
        for _ in range(AT_ONCE if told else 1):
            now = ask("PRAGMA data_version").fetchone()[0]
            if now != self._version:
                self._version = now
                self._read(ask)
                break
            if told:
                time.sleep(APART)
        if told:  # of many writes few are looked at
            time.sleep(EVERY)

    def _read(self, ask: Callable[..., sqlite3.Cursor]) -> None:
        rows = ask("SELECT id, user_id, origin FROM notifications_ring WHERE id > ?", [self.last]).fetchall()
        if not rows:
            return
        to_python = Stream._meta.pk.target_field.to_python
        others = {user for _, user, origin in rows if origin != process()}
        if others:
            self._heard([to_python(user) for user in others if user is not None], queue=None in others)
        self.last = max(row[0] for row in rows)


def can_watch() -> bool:
    """Whether the app's database is a SQLite file."""
    db = connection()
    return db.vendor == "sqlite" and not db.is_in_memory_db()


def _identity(path: Any) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def _writes(path: str) -> Iterator[Inotify | None]:
    """Tell of writes to a database, None where nobody does. With a log, it is there once something was read."""
    try:
        writes = Inotify([path, f"{path}-wal"])
    except OSError as exc:
        logger.debug("The SQLite file is looked at every %g ms: %s", EVERY * 1000, exc)
        yield None
        return
    with contextlib.closing(writes):
        yield writes
