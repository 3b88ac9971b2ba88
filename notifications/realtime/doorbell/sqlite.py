"""Rings from other processes on SQLite: a thread that watches the database file for commits.

``PRAGMA data_version`` takes a few microseconds and changes with each commit of another connection. Only then are rings
and new jobs read, and only those after the last one, so the cost does not grow with the number of connected users. On
Linux the thread sleeps until inotify reports a write.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Any

from notifications.db.dialects import find_dialect
from notifications.db.transactions import connection
from notifications.ids import process_number
from notifications.jobs.declaring.tasks import wakes_builtin_worker
from notifications.models import Stream
from notifications.realtime.doorbell.other_processes import ListenerThread
from notifications.streams.carrying import parse_change
from notifications.streams.rings import NO_CHANGES, merge, own_jobs

logger = logging.getLogger(__name__)

NAME = "SQLite file"
#: Seconds between two checks for a commit without inotify, and in a burst of writes.
POLL_INTERVAL_SECONDS = 0.002
#: Seconds between the first checks after a reported write whose commit is not visible yet.
COMMIT_POLL_INTERVAL_SECONDS = 0.001
#: The most seconds between two checks in the first ``RECENT_WRITE_SECONDS`` after a reported write.
MAX_RECENT_POLL_INTERVAL_SECONDS = 0.005
RECENT_WRITE_SECONDS = 0.1
#: The most seconds between two checks after that, until ``SLOW_COMMIT_SECONDS``.
MAX_SLOW_POLL_INTERVAL_SECONDS = 0.02
#: Seconds between two checks where inotify does not report writes, as on some network file systems.
UNREPORTED_POLL_INTERVAL_SECONDS = 0.02
#: Seconds between two checks where it does, in case that it misses one.
IDLE_POLL_INTERVAL_SECONDS = 1.0
#: A commit waits for the disk after its last write. For so many seconds it is checked for, at growing intervals.
SLOW_COMMIT_SECONDS = 1.0
#: The time from a write to its commit, after which the first check follows, is learned up to so many seconds.
MAX_COMMIT_SECONDS = 0.005
#: Seconds between two checks whether the file was replaced, and before the restart after an error.
IDENTITY_CHECK_SECONDS = 1.0
#: The newest jobs that are read if the last one that was read is gone, so that it is not known which ones are new.
MAX_JOBS_WITHOUT_POSITION = 100
#: New jobs that are read at most, the newest: to read 50,000 took 50 ms in each process. The position check finds the
#: users of the others. The row of a batch, which has its owner, is inserted after its jobs, so that it is among them.
MAX_NEW_JOBS = 1_000
#: The jobs from a rowid on, the newest first.
NEWEST_JOBS = "FROM notifications_job WHERE rowid >= ? ORDER BY rowid DESC"
#: Bytes of events that are read at once. The kernel merges equal ones, so that there are rarely two.
MAX_EVENT_BYTES = 65_536
#: A process wrote to the file (<sys/inotify.h>).
IN_MODIFY = 0x00000002


class SqliteListener(ListenerThread):
    """Call ``on_ring(users, queue=…, changes=…)``, in a thread, with what other processes commit from now on.

    A busy database or a replaced file may lose rings; they are hints.
    """

    def __init__(self, on_ring: Callable[..., None]) -> None:
        self._on_ring = on_ring
        self.last_ring_id = 0
        self._last_job: tuple[int, str] = 0, ""  # rowid and id
        self.file_id: tuple[int, int] | None = None  # device and inode
        self._data_version = 0
        self._written_at = self._read_at = 0.0
        #: A moving average of the seconds from the report of a write until its commit is visible.
        self.commit_seconds = 0.001
        #: Whether a write was reported whose commit is not seen yet, and whether a check has not seen it since.
        self._awaits_commit = self._was_uncommitted = False
        self._reports_writes = True
        super().__init__("notifications-doorbell-sqlite")

    @property
    def is_listening(self) -> bool:
        return self.file_id is not None

    def _listen(self) -> float:
        try:
            self._watch()
        finally:
            connection().close()
        return 0.0

    def _watch(self) -> None:
        """Watch until ``stop()``, an error, or until the file is replaced by another one."""
        db = connection()
        db.ensure_connection()
        path = str(db.settings_dict["NAME"])
        execute = db.connection.execute
        self._data_version = execute("PRAGMA data_version").fetchone()[
            0
        ]  # differs from that of other connections
        self.last_ring_id = execute("SELECT coalesce(max(id), 0) FROM notifications_ring").fetchone()[0]
        self._last_job = execute(f"SELECT rowid, id {NEWEST_JOBS} LIMIT 1", [0]).fetchone() or (0, "")
        self.file_id = _file_id(path)
        self.note_success()
        with _open_inotify(path, self._stop_reader.fileno()) as inotify:
            check_identity_at = time.monotonic() + IDENTITY_CHECK_SECONDS
            while not self.is_stopped:
                self._wait_for_commit(execute, inotify)
                if time.monotonic() > check_identity_at:
                    if _file_id(path) != self.file_id:
                        return
                    check_identity_at = time.monotonic() + IDENTITY_CHECK_SECONDS

    def _wait_for_commit(self, execute: Callable[..., sqlite3.Cursor], inotify: Inotify | None) -> None:
        """Wait for a write or one poll interval, and read the rings if another connection has committed."""
        if inotify is None:
            time.sleep(POLL_INTERVAL_SECONDS)
            self._read_commit(execute, inotify)
            return
        awaits_commit = self._awaits_commit
        if not self._wait_for_write(inotify, self._poll_interval()):
            if self._read_commit(execute, inotify) and awaits_commit:
                seconds = min(time.monotonic() - self._written_at, MAX_COMMIT_SECONDS)
                self.commit_seconds += (seconds - self.commit_seconds) / 8
            return
        # A burst of writes is checked once per interval, not once per write.
        if (pause := self._read_at + POLL_INTERVAL_SECONDS - self._written_at) > 0:
            time.sleep(pause)
        if self._read_commit(execute, inotify):
            return
        # Checks every 0.2 ms woke this thread 9.4 times for a message while the cores were busy, this does 4 times.
        time.sleep(self.commit_seconds)
        self._wait_for_write(inotify, 0)  # the later writes of this commit
        if self._read_commit(execute, inotify):
            self.commit_seconds -= self.commit_seconds / 16  # It may have been visible earlier.

    def _read_commit(self, execute: Callable[..., sqlite3.Cursor], inotify: Inotify | None) -> bool:
        version = execute("PRAGMA data_version").fetchone()[0]
        if version == self._data_version:
            self._was_uncommitted = True
            return False
        if inotify and not self._awaits_commit and not self._wait_for_write(inotify, 0):
            self._reports_writes = False  # some network file systems
        if self._was_uncommitted:
            # There is one writer at a time: if another one has written since, that is reported next.
            self._awaits_commit = False
        self._data_version = version
        self._read_rings(execute)
        self._read_at = time.monotonic()
        return True

    def _wait_for_write(self, inotify: Inotify, seconds: float) -> bool:
        if has_write := inotify.wait(seconds):
            self._written_at = time.monotonic()
            self._awaits_commit, self._was_uncommitted = True, False
        return has_write

    def _poll_interval(self) -> float:
        since_write = time.monotonic() - self._written_at
        if self._awaits_commit and since_write < SLOW_COMMIT_SECONDS:
            interval = COMMIT_POLL_INTERVAL_SECONDS if self._was_uncommitted else POLL_INTERVAL_SECONDS
            is_recent = since_write < RECENT_WRITE_SECONDS
            longest = MAX_RECENT_POLL_INTERVAL_SECONDS if is_recent else MAX_SLOW_POLL_INTERVAL_SECONDS
            return min(max(interval, since_write / 2), longest)
        return IDLE_POLL_INTERVAL_SECONDS if self._reports_writes else UNREPORTED_POLL_INTERVAL_SECONDS

    def _read_rings(self, execute: Callable[..., sqlite3.Cursor]) -> None:
        # One statement: the pages that the last commit has changed are read from the file, and each locks it.
        # Without the rings of this process, of which a worker makes a hundred in a claim, but for their last id.
        found = execute(
            "SELECT * FROM "
            "(SELECT 0, id, user_id, change, NULL FROM notifications_ring WHERE id > ? AND origin IS NOT ?) "
            f"UNION ALL SELECT * FROM (SELECT 1, rowid, user_id, backend, id {NEWEST_JOBS} LIMIT {MAX_NEW_JOBS}) "
            "UNION ALL SELECT 2, max(id), NULL, NULL, NULL FROM notifications_ring",
            [self.last_ring_id, process_number(), self._last_job[0]],
        ).fetchall()
        found.sort(key=itemgetter(0, 1))
        last_ring_id = found.pop()[1]
        jobs = self._find_new_jobs([row[1:] for row in found if row[0]], execute)
        users: dict[Any, Any] = {}
        for is_job, _, user, change, _ in found:
            if not is_job:
                merge(users, [user], {user: parse_change(change)})
        # A row without a user rings for the job queue.
        queue = None in users or wakes_builtin_worker({backend for _, _, backend, _ in jobs})
        merge(users, [user for _, user, _, _ in jobs], NO_CHANGES)
        users.pop(None, None)
        if users or queue:
            to_python = Stream._meta.pk.target_field.to_python
            rung = {to_python(user): changes for user, changes in users.items()}
            self._on_ring(rung, queue=queue, changes=rung)
        self.last_ring_id = max(self.last_ring_id, last_ring_id or 0)

    def _find_new_jobs(self, rows: list[Any], execute: Callable[..., sqlite3.Cursor]) -> list[Any]:
        """Return those of these jobs that other processes have inserted since the last call.

        They are rowid, user, backend and id, in this order, from the last one that was found on. It may return older
        ones too.
        """
        if rows and (rows[0][0], rows[0][3]) == self._last_job:
            del rows[0]
        elif self._last_job[0] and len(rows) < MAX_NEW_JOBS:  # In an empty table, all are new.
            # SQLite gives a new row the greatest rowid and 1, which may be that of a deleted row; and VACUUM changes
            # all of them.
            sql = f"SELECT rowid, user_id, backend, id {NEWEST_JOBS} LIMIT {MAX_JOBS_WITHOUT_POSITION}"
            rows = execute(sql, [0]).fetchall()[::-1]
        if rows:
            self._last_job = rows[-1][0], rows[-1][3]
        return [row for row in rows if row[3] not in own_jobs]


class Inotify:
    """Watch files for writes by any process, with Linux's inotify(7).

    Paths that do not exist are skipped. Data at ``wake_fd`` ends a wait too.
    Raises OSError on other systems than Linux, or if the system user has too many watches or instances.
    """

    def __init__(self, paths: Iterable[str], wake_fd: int) -> None:
        if sys.platform != "linux":
            raise OSError("inotify is available on Linux only.")
        import ctypes  # which each start would import

        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        for path in paths:
            if libc.inotify_add_watch(self._fd, os.fsencode(path), IN_MODIFY) < 0:
                number = ctypes.get_errno()
                if number != errno.ENOENT:
                    self.close()
                    raise OSError(number, os.strerror(number), path)

        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._poll.register(wake_fd, select.POLLIN)

    def wait(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for a write. Returns whether there was one since the last call."""
        has_events = any(fd == self._fd for fd, _ in self._poll.poll(seconds * 1000))
        if has_events:
            # What is left in the queue ends the next wait.
            os.read(self._fd, MAX_EVENT_BYTES)
        return has_events

    def close(self) -> None:
        os.close(self._fd)


def can_watch() -> bool:
    """Return whether the app's database is a SQLite file."""
    db = connection()
    return (dialect := find_dialect(db)) is not None and bool(dialect.watched_file(db))


def _file_id(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def _open_inotify(path: str, wake_fd: int) -> Iterator[Inotify | None]:
    """Watch the database file and its write-ahead log. Yields None where inotify is not available.

    The log exists once the connection has read something.
    """
    try:
        inotify = Inotify([path, f"{path}-wal"], wake_fd)
    except OSError as exc:
        logger.debug("Polling the SQLite file every %g ms: %s", POLL_INTERVAL_SECONDS * 1000, exc)
        yield None
        return
    with contextlib.closing(inotify):
        yield inotify
