"""The clients of this process that follow outputs: long polls, and Server-Sent Events of the Durable Streams protocol.

They join the hub, which closes them when their user signs out and when the server stops; no frame is sent to them. An
output is read from the database once for all readers that are at the same place, when the doorbell rings for the owner
of its job. A ring may be lost, so all are read every few seconds too.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Protocol
from uuid import UUID

from notifications.contrib.output.api import LABEL
from notifications.contrib.output.reading import OutputPart, read_parts
from notifications.exceptions import JobDoesNotExist
from notifications.extension import HubPart
from notifications.realtime import EventStream, Follower, WaitingRequest

logger = logging.getLogger(__name__)

#: A cursor of the protocol counts intervals of this length from this time: 2024-10-09 UTC.
CURSOR_SECONDS, CURSOR_EPOCH = 20, 1_728_432_000
#: Intervals that are added to the cursor of a client that has the current one.
MAX_CURSOR_JITTER = 180
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

    def __init__(self, hub: Any) -> None:
        self._loop = hub.loop
        self._pool = hub.query_pool
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


def format_offset(offset: int) -> str:
    """Return an offset as the protocol has it, where offsets are compared as strings."""
    return f"{offset:016d}"


def next_cursor(cursor: str) -> str:
    """Return the cursor of a response to a client that has this one, "" if it has none. It is always a later one."""
    now = int(time.time() - CURSOR_EPOCH) // CURSOR_SECONDS
    last = int(cursor) if cursor.isascii() and cursor.isdigit() and len(cursor) < 17 else -1
    return str(now if last < now else last + random.randint(1, MAX_CURSOR_JITTER))


class OutputPoll(WaitingRequest):
    """Waits for the next output, or the end of the job.

    ``result``
        The next output as soon as there is some, or an empty part at the end. None when the job does not exist any
        more.
    """

    __slots__ = ("job", "offset")

    hub: Any

    def __init__(self, hub: Any, follower: Follower, job: UUID, offset: int) -> None:
        super().__init__(hub, follower)
        self.job, self.offset = job, offset

    def _begin(self) -> None:
        self.hub.parts[LABEL].add(self)

    def take(self, part: OutputPart | None) -> None:
        self.result = part
        if part is None or part.data or part.is_closed:
            self._finish()

    def close(self, bye: Any) -> None:
        if not self.is_closed:
            self.result = None
        super().close(bye)

    def _leave(self) -> None:
        self.hub.parts[LABEL].remove(self)
        super()._leave()


class OutputEvents(EventStream):
    """``stream_output()`` is the body of one response: an event of text, and a control event after it."""

    __slots__ = ("cursor", "has_begun", "job", "offset")

    hub: Any
    #: Text of one response, which Daphne keeps in memory for a client that does not read: the size of a part.
    max_response_bytes = 256 * 1024
    #: The protocol recommends this.
    max_response_seconds = 60.0

    def __init__(self, hub: Any, follower: Follower, job: UUID, offset: int, cursor: str) -> None:
        super().__init__(hub, follower)
        self.job, self.offset, self.cursor = job, offset, cursor
        self.has_begun = False

    def stream_output(self) -> AsyncGenerator[bytes]:
        """Yield the events from the offset on, until the job or the response ends."""
        return self._stream(lambda: self.hub.parts[LABEL].add(self))

    def take(self, part: OutputPart | None) -> None:
        if self.is_closed:
            return
        if part is None:
            self.end()
            return
        if self.total_bytes and self.total_bytes + len(part.data) > self.max_response_bytes:
            self.end()  # the next response begins with this part
            return
        if part.data or part.is_closed or not self.has_begun:
            self.has_begun, self.offset, self.cursor = True, part.end, next_cursor(self.cursor)
            offset = format_offset(part.end)
            control: dict[str, Any] = {"streamNextOffset": offset}
            control |= {"streamClosed": True} if part.is_closed else {"streamCursor": self.cursor}
            if part.is_last:
                control["upToDate"] = True
            # The id is for the EventSource of browsers, which knows no offsets.
            event = f"event: control\ndata:{json.dumps(control)}\nid: {offset}\n\n".encode()
            # In one message with the data, so that both arrive together.
            self._append_bytes(_data_event(part) + event if part.data else event)
        if part.is_closed:
            self.end()
        else:
            self._end_if_large()

    def _leave(self) -> None:
        self.hub.parts[LABEL].remove(self)
        super()._leave()


def _data_event(part: OutputPart) -> bytes:
    """Return the event of a part, which is encoded once for all readers."""
    event: bytes | None = part.__dict__.get("event")
    if event is None:
        # Lines end with \\n only, as they are stored. Readers take away the first space of a line.
        lines = (b"\n" + part.data).replace(b"\n", b"\ndata:").replace(b"\ndata: ", b"\ndata:  ")
        event = part.__dict__["event"] = b"event: data" + lines + b"\n\n"
    return event
