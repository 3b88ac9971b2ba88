"""Wait for writes to files with Linux's inotify(7), without polling."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import sys
from collections.abc import Iterable

#: A process wrote to the file (<sys/inotify.h>).
IN_MODIFY = 0x00000002


class Inotify:
    """Watch files for writes by any process. Paths that do not exist are skipped. Data at ``wake_fd`` ends a wait too.

    Raises OSError on other systems than Linux, or if the system user has too many watches or instances.
    """

    def __init__(self, paths: Iterable[str], wake_fd: int) -> None:
        if sys.platform != "linux":
            raise OSError("inotify is available on Linux only.")
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
            with contextlib.suppress(BlockingIOError):
                while os.read(self._fd, 4096):
                    pass
        return has_events

    def close(self) -> None:
        os.close(self._fd)
