"""The queue of what the recording process of a Celery worker has to record: it is read from a pipe."""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
from typing import TYPE_CHECKING

from notifications.contrib.celery.record_pipe import RecordPipe, wait_until_ready
from notifications.contrib.celery.record_queue import (
    MAX_GATHER_SECONDS,
    MAX_QUEUED_CALLS,
    QUIET_SECONDS,
    START_DELAY_SECONDS,
    Entry,
    RecordQueue,
    Work,
    is_start,
)

if TYPE_CHECKING:
    from notifications.contrib.celery.receiver import Receiver

logger = logging.getLogger("notifications.jobs")


class ReceivedQueue(RecordQueue):
    """Takes what child processes have sent, and what threads of this process put.

    Messages gather in the pipe: none of them wakes this process.
    """

    def __init__(self, pipe: RecordPipe, receiver: Receiver) -> None:
        super().__init__()
        self._pipe = pipe
        self._receiver = receiver
        #: Written to by ``put()``.
        self._wake_read_end, self._wake_write_end = os.pipe()
        #: All processes that write to the pipe have closed it, or ended.
        self.has_ended = threading.Event()

    def put(self, work: Work, *, done: threading.Event | None = None) -> None:
        """Add an entry of this process."""
        self._entries.put(Entry(work, done))
        os.write(self._wake_write_end, b"\0")

    def take(self, timeout: float) -> list[Entry]:
        """Wait for entries, let them gather, and return them in order; none after ``timeout`` seconds without any."""
        entries = self._read(timeout)
        if not entries or any(entry.done for entry in entries):
            return entries
        now = time.monotonic()
        until = min(self._ready_at, now + MAX_GATHER_SECONDS)
        if all(map(is_start, entries)):  # the end of a short task follows at once
            until = max(until, now + START_DELAY_SECONDS)
        while (seconds := until - time.monotonic()) > 0:
            time.sleep(min(seconds, QUIET_SECONDS))
            if not (more := self._read(0.0)):
                break
            entries += more
        return entries

    def wait(self, seconds: float) -> None:
        """Wait, and take messages from the pipe meanwhile: else tasks would wait for room in it."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            has_room = len(self._receiver) < MAX_QUEUED_CALLS
            if wait_until_ready(self._open_ends if has_room else [], left):
                self._receive()
                time.sleep(min(START_DELAY_SECONDS, left))

    @property
    def _open_ends(self) -> list[int]:
        """The end of the pipe that is read, none if it will have no more messages."""
        return [] if self.has_ended.is_set() else [self._pipe.read_end]

    def _read(self, timeout: float) -> list[Entry]:
        readable = wait_until_ready([*self._open_ends, self._wake_read_end], timeout)
        if self._pipe.read_end in readable:
            self._receive()
        entries = [Entry(work) for work in self._receiver.take()]
        if self._wake_read_end in readable:
            os.read(self._wake_read_end, 4096)
        while len(self):
            entries.append(self._entries.get())
        return entries

    def _receive(self) -> None:
        if (messages := self._pipe.read()) is None:
            self.has_ended.set()
            return
        for message in messages:
            try:
                self._receiver.receive(*pickle.loads(message))  # noqa: S301  (from a fork of the same process)
            except Exception:
                logger.exception("Could not record a Celery task")
