"""What doorbells of different processes share: their messages, and the threads that publish and receive rings.

``{"type": "doorbell", "from": origin, "users": […], "queue": false}``: Channels dispatches on ``type``, ``from``
identifies the process, ``users`` are user keys as strings, ``queue`` says that the job queue has something new. A ring
that carries something has ``changes`` too: a list of ``[user, change, signature]``, of users who are not in ``users``.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.encoding import force_bytes

from notifications.conf import cached_until_changed
from notifications.db.supervised import SupervisedThread
from notifications.db.threads import NoThread
from notifications.db.unavailable import log_retried
from notifications.models import Stream
from notifications.streams.carrying import Changes, parse_change
from notifications.streams.rings import NO_CHANGES, merge

logger = logging.getLogger(__name__)

MAX_USERS_PER_MESSAGE = 500
#: Bytes of all keys and changes in a message, as JSON. NOTIFY takes 7,999 bytes, with the rest of the message.
MAX_BYTES_PER_MESSAGE = 7_800

#: Seconds that ``ListenerThread.stop()`` waits for the thread, which may be connecting.
STOP_TIMEOUT_SECONDS = 5.0
#: Seconds between two messages of a process. Channel layers drop messages that arrive faster than they are read.
COALESCE_SECONDS = 0.005
#: Seconds that ``Publisher.flush()`` waits for rings to be published.
FLUSH_TIMEOUT_SECONDS = 1.0
#: Not escaped to ASCII: PostgreSQL has stored the texts, so that its encoding has their characters.
_ENCODER = json.JSONEncoder(ensure_ascii=False)


class ListenerThread(SupervisedThread):
    """Receives rings of other processes from soon after it is made until ``stop()``.

    ``_listen()`` does, and waits for ``_stop_reader`` too. Raises ``NoThread`` if the process cannot start the thread.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, self._listen, session=self._sockets, has_trace=False)
        self.wake()

    def stop(self, timeout: float = STOP_TIMEOUT_SECONDS) -> None:
        """End the thread and close its connection. Does not wait if called in this thread."""
        super().stop(timeout)

    @contextlib.contextmanager
    def _sockets(self) -> Iterator[None]:
        self._stop_reader, self._stop_writer = socket.socketpair()
        with self._stop_reader, self._stop_writer:
            yield

    def _interrupt(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # it does not wait
            self._stop_writer.send(b".")

    def _listen(self) -> float | None:
        raise NotImplementedError


class Publisher:
    """Publishes rings to other processes, on a thread that lives while there are some.

    Rings that come while it publishes are combined.
    """

    def __init__(self, origin: str, name: str, *, idle_seconds: Callable[[], float]) -> None:
        self._origin = origin
        self._lock = threading.Lock()
        self._users: dict[Any, Any] = {}
        self._queue = False
        self._next_send_at = 0.0
        self._flushed = threading.Event()
        self._flushed.set()
        self._thread = SupervisedThread(
            name, self._publish_pending, session=self._session, idle_seconds=idle_seconds, has_trace=False
        )

    def publish(self, users: Iterable[Any], queue: bool, changes: Changes = NO_CHANGES) -> None:
        """Publish a ring soon. Never blocks."""
        if self._thread.is_stopped:
            return
        with self._lock:
            merge(self._users, users, changes)
            self._queue = self._queue or queue
            self._flushed.clear()
        try:
            self._thread.wake()
        except NoThread as exc:  # the next call tries again
            log_retried(logger, "Could not ring other processes", exc)

    def flush(self) -> bool:
        """Wait until pending rings are published, for at most a second. Returns whether they are."""
        return self._flushed.wait(FLUSH_TIMEOUT_SECONDS)

    def stop(self) -> None:
        """Publish what is pending, for at most a second, and end the thread."""
        self._thread.stop(FLUSH_TIMEOUT_SECONDS if self.flush() else 0.0)

    def _publish_pending(self) -> float | None:
        with self._lock:
            if not self._users and not self._queue:
                self._flushed.set()
                return None
        time.sleep(max(0.0, self._next_send_at - time.monotonic()))
        with self._lock:
            users, queue = self._users, self._queue
            self._users, self._queue = {}, False
            self._next_send_at = time.monotonic() + COALESCE_SECONDS
        self._send_combined(users, queue)
        return 0.0

    def _session(self) -> contextlib.AbstractContextManager[None]:
        """Return the context with the connection of the thread."""
        raise NotImplementedError

    def _send_combined(self, users: dict[Any, Any], queue: bool) -> None:
        raise NotImplementedError


def build_messages(
    origin: str, users: Iterable[Any], queue: bool, changes: Changes = NO_CHANGES
) -> Iterator[dict[str, Any]]:
    """Yield the messages for one ring of the process ``origin``: as many as its user keys need, at least one.

    A change that is too long for a message is not carried. A key that is too long is left out; the position check finds
    that user's changes.
    """
    keys: list[str] = []
    carried: list[list[str]] = []
    total_bytes = 0
    for user in users:
        key = str(user)
        texts = [change.to_text() for change in changes.get(user, ())]
        signed = [[key, text, _sign(key, text)] for text in texts]
        if not signed or (needed_bytes := _json_bytes(signed)) > MAX_BYTES_PER_MESSAGE:
            signed, needed_bytes = [], _json_bytes(key)
        if needed_bytes > MAX_BYTES_PER_MESSAGE:
            continue
        is_full = len(keys) + len(carried) >= MAX_USERS_PER_MESSAGE
        if is_full or total_bytes + needed_bytes > MAX_BYTES_PER_MESSAGE:
            yield _build_message(origin, keys, queue, carried)
            keys, carried, total_bytes, queue = [], [], 0, False
        if signed:
            carried += signed
        else:
            keys.append(key)
        total_bytes += needed_bytes
    yield _build_message(origin, keys, queue, carried)


def encode_message(message: Any) -> str:
    """Return a message as JSON text."""
    return _ENCODER.encode(message)


def parse_message(message: Any, origin: str) -> tuple[dict[Any, Any], bool] | None:
    """Return the user keys, with what is carried of each, and the queue flag of a message.

    None if ``origin`` itself sent it, or it is not a ring.
    """
    if not isinstance(message, dict) or message.get("type") != "doorbell" or message.get("from") == origin:
        return None
    users, carried = message.get("users"), message.get("changes", [])
    if not isinstance(users, (list, tuple)) or not isinstance(carried, list):
        return None
    to_python = Stream._meta.pk.target_field.to_python
    rung: dict[Any, Any] = {}
    try:
        merge(rung, map(to_python, users), NO_CHANGES)
        for key, text, signature in carried:
            user = to_python(key)
            is_signed = hmac.compare_digest(_sign(key, text), signature)
            merge(rung, [user], {user: parse_change(text) if is_signed else ()})
    # A project with another type of user key shares the broker. Any role of the database sends what it likes.
    except (ValidationError, TypeError, ValueError, OverflowError):
        return None
    return rung, message.get("queue") is True


def _sign(key: str, text: str) -> str:
    """Sign the change of a user: any role of the database can send messages. After a rotation of the key it is read."""
    signed = f"{len(key)},{key},{text}"
    return hmac.digest(_signature_key(), signed.encode(), "sha256")[:16].hex()


@cached_until_changed("SECRET_KEY")
def _signature_key() -> bytes:
    return hmac.digest(force_bytes(settings.SECRET_KEY), b"notifications.doorbell", "sha256")


def _json_bytes(value: Any) -> int:
    """Return the bytes that a value takes in a message, with what separates it from the next one."""
    return len(encode_message(value).encode()) + 2


def _build_message(origin: str, users: list[str], queue: bool, carried: list[list[str]]) -> dict[str, Any]:
    message: dict[str, Any] = {"type": "doorbell", "from": origin, "users": users, "queue": queue}
    return {**message, "changes": carried} if carried else message
