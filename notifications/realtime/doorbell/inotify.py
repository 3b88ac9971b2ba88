"""Whether somebody has written to a file, told by Linux, so that nobody needs to look again and again: inotify(7)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import sys
from collections.abc import Iterable

#: IN_MODIFY: somebody wrote to the file, in whatever process.
WRITTEN = 0x00000002


class Inotify:
    """Watches files, as far as they are there.

    Raises OSError where that cannot be had: on another system, or when the user watches too many already.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        if sys.platform != "linux":
            raise OSError("inotify is Linux's own.")
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        for path in paths:
            if libc.inotify_add_watch(self._fd, os.fsencode(path), WRITTEN) < 0:
                number = ctypes.get_errno()
                if number != errno.ENOENT:
                    self.close()
                    raise OSError(number, os.strerror(number), path)

        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def wait(self, seconds: float) -> bool:
        """Wait so long for a write at most; return whether there was one since the last call."""
        told = bool(self._poll.poll(seconds * 1000))
        if told:
            with contextlib.suppress(BlockingIOError):
                while os.read(self._fd, 4096):
                    pass
        return told

    def close(self) -> None:
        os.close(self._fd)
