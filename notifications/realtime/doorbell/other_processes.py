"""What doorbells of different processes share: their messages, how they reconnect, and threads that wait for rings.

``{"type": "doorbell", "from": origin, "users": […], "queue": false}``: Channels dispatches on ``type``, ``from``
identifies the process, ``users`` are user keys as strings, ``queue`` says that the job queue has something new.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.core.exceptions import ValidationError

from notifications.db.threads import NoThread, start
from notifications.db.unavailable import forget_logged, log_retried
from notifications.models import Stream

logger = logging.getLogger(__name__)

MAX_USERS_PER_MESSAGE = 500
#: Bytes of all keys in a message, as JSON. NOTIFY takes 7,999 bytes, with the rest of the message.
MAX_KEY_BYTES_PER_MESSAGE = 7_800

#: Seconds that ``ListenerThread.stop()`` waits for the thread, which may be connecting.
STOP_TIMEOUT_SECONDS = 5.0
MIN_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 5.0

#: Holds one connection until it is no longer needed; calls its argument once connected; raises if the connection fails.
Run = Callable[[Callable[[], None]], None]


class ListenerThread:
    """A listener with a thread, which waits for ``_stop_reader`` too.

    ``__init__`` starts the thread, so a subclass calls it last. Raises ``NoThread`` if the process cannot start it.
    """

    def __init__(self, name: str) -> None:
        self._stopping = threading.Event()
        self._stop_reader, self._stop_writer = socket.socketpair()  # wakes the thread
        self._thread = threading.Thread(target=self._run_until_stop, name=name, daemon=True)
        try:
            start(self._thread)
        except NoThread:
            self._stop_reader.close()
            self._stop_writer.close()
            raise

    def stop(self) -> None:
        """End the thread and close its connection. Does not wait if called in this thread."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._stop_writer.send(b".")
        if threading.current_thread() is not self._thread:
            self._thread.join(STOP_TIMEOUT_SECONDS)

    def _run_until_stop(self) -> None:
        with self._stop_reader, self._stop_writer:
            self._run()

    def _run(self) -> None:
        raise NotImplementedError


def build_messages(origin: str, users: Iterable[Any], queue: bool) -> Iterator[dict[str, Any]]:
    """Yield the messages for one ring of the process ``origin``: as many as its user keys need, at least one.

    A key that is too long for a message is left out; the position check finds that user's changes.
    """
    keys: list[str] = []
    total_bytes = 0
    for key in map(str, users):
        key_bytes = len(json.dumps(key)) + 2
        if key_bytes > MAX_KEY_BYTES_PER_MESSAGE:
            continue
        if len(keys) == MAX_USERS_PER_MESSAGE or total_bytes + key_bytes > MAX_KEY_BYTES_PER_MESSAGE:
            yield _build_message(origin, keys, queue)
            keys, total_bytes, queue = [], 0, False
        keys.append(key)
        total_bytes += key_bytes
    yield _build_message(origin, keys, queue)


def parse_message(message: Any, origin: str) -> tuple[set[Any], bool] | None:
    """Return the user keys and the queue flag of a message. None if ``origin`` itself sent it, or it is not a ring."""
    if not isinstance(message, dict) or message.get("type") != "doorbell" or message.get("from") == origin:
        return None
    users = message.get("users")
    if not isinstance(users, (list, tuple)):
        return None
    to_python = Stream._meta.pk.target_field.to_python
    try:
        return {to_python(user) for user in users}, message.get("queue") is True
    except (ValidationError, TypeError):  # a project with another type of user key shares the broker
        return None


def _build_message(origin: str, users: list[str], queue: bool) -> dict[str, Any]:
    return {"type": "doorbell", "from": origin, "users": users, "queue": queue}


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
