"""Messages of any length from several processes to one, through a pipe that outlives those who write to it."""

from __future__ import annotations

import os
import select
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress

#: Bytes that a pipe is to hold, if the system allows that: the starts and ends of about 1,000 tasks.
PIPE_BYTES = 1024 * 1024
#: Bytes that are written at once: a pipe keeps those of several writers apart up to this length.
MAX_WRITE_BYTES = getattr(select, "PIPE_BUF", 512)
#: What is waited for by default. Not on Windows, where there is no such pipe either.
_READABLE = getattr(select, "POLLIN", 0)
#: Before each part of a message: the process that writes it, the bytes of the part, whether it is the first and the
#: last one of its message.
_PART = struct.Struct("=IH??")


class RecordPipe:
    """A pipe that is opened before the processes that write to it, and the one that reads it, are forked."""

    def __init__(self) -> None:
        self.read_end, write_end = os.pipe()
        self._write_end: int | None = write_end
        os.set_blocking(write_end, False)
        with suppress(ImportError, AttributeError, OSError):  # not on Linux, or more than one user may have
            import fcntl

            fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._lock = threading.Lock()
        #: The last message found no room in time, so that the next one does not wait for it.
        self._is_full = False
        self._rest = b""
        #: What has come of messages in several parts, by the process that writes them.
        self._begun: dict[int, list[bytes]] = {}

    def reset_lock(self) -> None:
        """Replace the lock in a process that was forked: another thread may have held it."""
        self._lock = threading.Lock()

    def close_writing(self) -> None:
        """Write nothing more in this process. The end is read when all processes have closed the pipe, or ended."""
        if self._write_end is not None:
            os.close(self._write_end)
            self._write_end = None

    def send(self, message: bytes, timeout: float) -> bool:
        """Write a message. Return False if the pipe stays full for ``timeout`` seconds, or has been closed.

        After that no message waits until there is room.
        """
        size = MAX_WRITE_BYTES - _PART.size
        if len(message) <= size:  # as most are
            return self._write(_PART.pack(os.getpid(), len(message), True, True) + message, timeout)
        with self._lock:  # else parts of two threads would be mixed
            for start in range(0, len(message), size):
                part = message[start : start + size]
                is_last = start + size >= len(message)
                if not self._write(_PART.pack(os.getpid(), len(part), start == 0, is_last) + part, timeout):
                    return False
        return True

    def read(self) -> list[bytes] | None:
        """Return the messages that have come; None at the end. Waits for the first one."""
        if not (data := os.read(self.read_end, 2 * PIPE_BYTES)):
            return None
        return list(self._messages(self._rest + data))

    def _write(self, data: bytes, timeout: float) -> bool:
        while self._write_end is not None:
            try:
                os.write(self._write_end, data)
                self._is_full = False
                return True
            except BlockingIOError:
                seconds = 0.0 if self._is_full else timeout
                if not wait_until_ready([self._write_end], seconds, select.POLLOUT):
                    self._is_full = True
                    return False
            except OSError:
                return False
        return False

    def _messages(self, data: bytes) -> Iterator[bytes]:
        position = 0
        while len(data) - position >= _PART.size:
            pid, size, is_first, is_last = _PART.unpack_from(data, position)
            if len(data) - position < _PART.size + size:
                break
            position += _PART.size + size
            part = data[position - size : position]
            if is_first and is_last:
                yield part
                continue
            if is_first:  # what has come before is of a message that its process gave up
                self._begun[pid] = []
            if pid not in self._begun:
                continue
            self._begun[pid].append(part)
            if is_last:
                yield b"".join(self._begun.pop(pid))
        self._rest = data[position:]


def wait_until_ready(ends: Iterable[int], seconds: float, event: int = _READABLE) -> set[int]:
    """Wait until one of these ends of pipes can be read, or written. Return those that can, none after ``seconds``.

    Unlike ``select()`` it takes any number, as there are in a main process with hundreds of children.
    """
    poll = select.poll()
    for end in ends:
        poll.register(end, event)
    return {end for end, _ in poll.poll(max(seconds, 0.0) * 1000)}
