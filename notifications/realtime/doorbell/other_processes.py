"""What doorbells of different processes share: their messages, how they reconnect, and threads that wait for rings.

``{"type": "doorbell", "from": origin, "users": […], "queue": false}``: Channels dispatches on ``type``, ``from``
identifies the process, ``users`` are user keys as strings, ``queue`` says that the job queue has something new. A ring
that carries something has ``changes`` too: a list of ``[user, change, signature]``, of users who are not in ``users``.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.encoding import force_bytes

from notifications.conf import cached_until_changed
from notifications.db.threads import NoThread, start_thread
from notifications.db.unavailable import forget_logged, log_retried
from notifications.models import Stream
from notifications.streams.carrying import Changes, merge, parse_change
from notifications.streams.rings import NO_CHANGES

logger = logging.getLogger(__name__)

MAX_USERS_PER_MESSAGE = 500
#: Bytes of all keys and changes in a message, as JSON. NOTIFY takes 7,999 bytes, with the rest of the message.
MAX_BYTES_PER_MESSAGE = 7_800

#: Seconds that ``ListenerThread.stop()`` waits for the thread, which may be connecting.
STOP_TIMEOUT_SECONDS = 5.0
MIN_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 5.0

#: Not escaped to ASCII: PostgreSQL has stored the texts, so that its encoding has their characters.
_ENCODER = json.JSONEncoder(ensure_ascii=False)

#: Holds one connection until it is no longer needed; calls its argument once connected; raises if the connection fails.
Run = Callable[[Callable[[], None]], None]


class ListenerThread:
    """A listener with a thread, which waits for ``_stop_reader`` too.

    ``__init__`` starts the thread, so a subclass calls it last. Raises ``NoThread`` if the process cannot start it.
    """

    def __init__(self, name: str) -> None:
        self._stopping = threading.Event()
        self._stop_reader, self._stop_writer = socket.socketpair()  # wakes the thread
        self._thread: threading.Thread | None = None
        try:
            self._thread = start_thread(self._run_until_stop, name)
        except NoThread:
            self._stop_reader.close()
            self._stop_writer.close()
            raise

    def stop(self) -> None:
        """End the thread and close its connection. Does not wait if called in this thread."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._stop_writer.send(b".")
        if self._thread and threading.current_thread() is not self._thread:
            self._thread.join(STOP_TIMEOUT_SECONDS)

    def _run_until_stop(self) -> None:
        with self._stop_reader, self._stop_writer:
            self._run()

    def _run(self) -> None:
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


def retry_forever(name: str, run: Run, stopping: threading.Event) -> None:
    """Call ``run(on_connected)`` until it returns, again after each error, with back-off, until ``stopping`` is set.

    Errors are logged under ``name`` once a minute, and each recovery once.
    """
    backoff, has_failed, phrase = MIN_BACKOFF_SECONDS, False, f"Doorbell interrupted, retrying: {name}"

    def on_connected() -> None:
        nonlocal has_failed
        if has_failed:
            logger.info("Doorbell works again: %s", name)
            forget_logged(phrase)
        has_failed = False

    while not stopping.is_set():
        started = time.monotonic()
        try:
            return run(on_connected)
        except Exception as exc:  # the thread must survive any error
            # Until then, the position check finds changes by other processes within 5 s.
            log_retried(logger, phrase, exc, has_trace=False)
            has_failed = True
        if time.monotonic() - started > MAX_BACKOFF_SECONDS:
            backoff = MIN_BACKOFF_SECONDS
        stopping.wait(backoff * random.uniform(0.5, 1.0))
        backoff = min(2 * backoff, MAX_BACKOFF_SECONDS)
