"""Rings from other processes on SQLite: a thread that watches whether the file was changed.

``PRAGMA data_version`` costs a few microseconds and moves with any commit of another connection. Then only the rings
after the last one are read, so the cost does not grow with the number of users that are watched.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

from django.db import DatabaseError

from notifications.models import Stream
from notifications.transactions import connection

logger = logging.getLogger(__name__)

NAME = "SQLite file"
#: Seconds between two looks.
EVERY = 0.002
#: Seconds between two looks at which file it is, and after an error.
SELDOM = 1.0
#: Seconds that the end waits for the thread.
PATIENCE = 5.0


class Watcher:
    """Calls ``heard({id: user, …})`` from a thread of its own with the rows of ``Ring`` committed since it started.

    Missing some (a busy database, a file put in its place) is allowed: rings are hints.
    """

    def __init__(self, heard: Callable[[dict[int, Any]], None]) -> None:
        self._heard = heard
        self.last = 0  # the id of the last ring that was read
        self.file: tuple[int, int] | None = None  # which one it is, whatever its name
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="notifications-doorbell-sqlite", daemon=True)
        self._thread.start()

    @property
    def hearing(self) -> bool:
        return self.file is not None

    def stop(self) -> None:
        """End the thread and its connection. Does not wait when called by the thread itself."""
        self._ended.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(PATIENCE)

    def _watch(self) -> None:
        while not self._ended.is_set():
            try:
                self._watch_file()
            # sqlite3's own error where the pragma was sent to it directly.
            except (DatabaseError, sqlite3.Error) as exc:
                logger.warning("The watcher of the SQLite file starts again after: %s", exc)
                self._ended.wait(SELDOM)
            finally:
                with contextlib.suppress(Exception):  # it is broken already
                    connection().close()

    def _watch_file(self) -> None:
        """Watch until the end, an error, or until another file stands in this one's place."""
        db = connection()
        db.ensure_connection()
        ask = db.connection.execute
        version = None
        self.last = ask("SELECT coalesce(max(id), 0) FROM notifications_ring").fetchone()[0]
        self.file = _identity(db.settings_dict["NAME"])
        look_again = time.monotonic() + SELDOM
        while not self._ended.wait(EVERY):
            now = ask("PRAGMA data_version").fetchone()[0]
            if now != version:
                version = now
                self._read(ask)
            if time.monotonic() > look_again:
                if _identity(db.settings_dict["NAME"]) != self.file:
                    return
                look_again = time.monotonic() + SELDOM

    def _read(self, ask: Callable[..., sqlite3.Cursor]) -> None:
        rows = ask("SELECT id, user_id FROM notifications_ring WHERE id > ?", [self.last]).fetchall()
        if rows:
            to_python = Stream._meta.pk.target_field.to_python
            self._heard({id: None if user is None else to_python(user) for id, user in rows})
            self.last = max(id for id, _ in rows)


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
