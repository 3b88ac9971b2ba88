"""The outputs of jobs that clients of this process read.

Each is read from the database once for all readers that are at the same place, when the doorbell rings for the owner of
the job. A ring may be lost, so all are read every few seconds too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Protocol
from uuid import UUID

from notifications.contrib.output.reading import OutputPart, read_parts
from notifications.exceptions import JobDoesNotExist
from notifications.extension import HubPart
from notifications.realtime.pool import ThreadPool

logger = logging.getLogger(__name__)

#: Seconds until a failed read is repeated.
RETRY_SECONDS = 1.0


class OutputReader(Protocol):
    """A client that reads the output of a job of ``user`` (key) from an offset at which a chunk begins."""

    user: Any
    job: UUID
    offset: int

    def has_room(self) -> bool: ...

    def take(self, part: OutputPart | None) -> None:
        """Take the part at ``offset``, perhaps empty, and move it; None if the job does not exist any more."""


class _Feed:
    """The readers of one output."""

    def __init__(self) -> None:
        self.readers: dict[OutputReader, None] = {}
        self.is_reading = False
        #: Something may have been written since the last read began.
        self.is_due = False


class OutputFeeds(HubPart):
    """``add()`` a reader, which takes what there is and then what is written, until ``remove()``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: ThreadPool) -> None:
        self._loop = loop
        self._pool = pool
        self._feeds: dict[Any, dict[UUID, _Feed]] = {}

    def add(self, reader: OutputReader) -> None:
        """Begin to read for a reader. It must have joined the hub, which listens to the doorbell then."""
        feed = self._feeds.setdefault(reader.user, {}).setdefault(reader.job, _Feed())
        feed.readers[reader] = None
        self._read(reader.user, reader.job, feed)

    def remove(self, reader: OutputReader) -> None:
        """Read no more for a reader. Has no effect on one that was removed."""
        feeds = self._feeds.get(reader.user, {})
        feed = feeds.get(reader.job)
        if feed is None:
            return
        feed.readers.pop(reader, None)
        if not feed.readers:
            del feeds[reader.job]
            if not feeds:
                del self._feeds[reader.user]

    def has_readers(self, user: Any) -> bool:
        return user in self._feeds

    def read_users(self, users: Iterable[Any]) -> None:
        for user in users:
            for job, feed in list(self._feeds.get(user, {}).items()):
                self._read(user, job, feed)

    def read_all(self) -> None:
        self.read_users(list(self._feeds))

    def _read(self, user: Any, job: UUID, feed: _Feed) -> None:
        feed.is_due = True
        offsets = {reader.offset for reader in feed.readers if reader.has_room()}
        if feed.is_reading or not offsets:
            return
        feed.is_due, feed.is_reading = False, True

        def on_done(future: asyncio.Future[Any]) -> None:
            feed.is_reading = False
            try:
                parts = future.result()
            except JobDoesNotExist:
                parts = dict.fromkeys(offsets)
            except Exception as exc:
                logger.warning("Could not read the output of job %s, which is tried again: %s", job, exc)
                self._loop.call_later(RETRY_SECONDS, self._read, user, job, feed)
                return
            for reader in list(feed.readers):
                if reader.offset in parts:
                    reader.take(parts[reader.offset])
            if feed.is_due or any(part and not part.is_last for part in parts.values()):
                self._read(user, job, feed)

        self._pool.run(read_parts, user, job, offsets).add_done_callback(on_done)
