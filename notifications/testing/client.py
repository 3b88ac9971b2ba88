"""A client of the WebSocket in memory, in place of a browser."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from notifications.db.threads import start_thread

T = TypeVar("T")

DEFAULT_TIMEOUT_SECONDS = 10.0


def connect(user: Any) -> Client:
    """Return a client of the WebSocket that is signed in as a user (or primary key): ``with connect(user) as client:``.

    It uses no network. It needs a ``TransactionTestCase`` (``transactional_db`` with pytest), because only committed
    rows are pushed, and raises RuntimeError in a ``TestCase``. On SQLite set a file name in ``DATABASES[...]["TEST"]``,
    because threads share the database.
    """
    return Client(user)


class Client:
    """The state that a user's browser would show, kept up to date until the end of the ``with`` block.

    ``notifications``
        Items of the protocol, by id, in the order of their ``raised``.
    ``jobs``
        Items of the protocol, by id.
    ``unread``, ``unseen``, ``seq``
        The unread and unseen counts, and the position in the stream.
    """

    def __init__(self, user: Any) -> None:
        self.notifications: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.unread = 0
        self.unseen = 0
        self.seq: int | None = None
        self._user = user
        self._changed = threading.Condition()
        self._ended: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None

    def until(
        self, condition: Callable[[Client], T | None], *, timeout: float = DEFAULT_TIMEOUT_SECONDS
    ) -> T:
        """Wait until ``condition(client)`` is true and return it. Raises AssertionError after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not (value := condition(self)):
                if self._ended is not None:
                    raise AssertionError(f"The connection has ended: {self._ended}")
                if not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError(
                        f"The condition was not met within {timeout:g} s. Received were the notifications "
                        f"{[item['title'] for item in self.notifications.values()]} and the jobs "
                        f"{[(item['title'], item['state']) for item in self.jobs.values()]}."
                    )
            return value

    async def auntil(
        self,
        condition: Callable[[Client], T | None],
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,  # noqa: ASYNC109 (as until has it)
    ) -> T:
        """See until()."""
        return await asyncio.to_thread(self.until, condition, timeout=timeout)

    def notification(self, title: str, *, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> dict[str, Any]:
        """Wait for a notification with this title and return its item. Raises AssertionError."""
        return self.until(lambda client: client._find_by_title(title), timeout=timeout)

    def done(self, job: Any, *, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> dict[str, Any]:
        """Wait until a job (what ``enqueue`` returned, a batch, an id) is done and return its item."""
        id = str(getattr(job, "id", job))
        return self.until(lambda client: client._find_done_job(id), timeout=timeout)

    def __enter__(self) -> Client:
        self._refuse_in_transaction()
        self._thread = start_thread(self._run, "notifications-client")
        with contextlib.ExitStack() as on_error:
            on_error.push(self)
            self.until(lambda client: client.seq is not None)
            on_error.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._task and self._thread and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # Its loop was closed meanwhile.
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)
        if self._thread:
            self._thread.join(DEFAULT_TIMEOUT_SECONDS)

    async def __aenter__(self) -> Client:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *error: Any) -> None:
        await asyncio.to_thread(self.__exit__, *error)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except asyncio.CancelledError:
            pass
        except Exception as exc:
            self._end(repr(exc))
        else:
            self._end("the server closed it")

    async def _serve(self) -> None:
        from notifications.realtime import hub
        from notifications.realtime.transports.consumers import notifications_socket

        self._task = asyncio.current_task()
        self._to_server: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._to_server.put_nowait({"type": "websocket.connect"})
        scope = {
            "type": "websocket",
            "path": "/ws/notifications/",
            "root_path": "",
            "scheme": "ws",
            "headers": [(b"host", b"testserver"), (b"origin", b"http://testserver")],
            "subprotocols": ["notifications.v1"],
            "user": await asyncio.to_thread(self._load_user),
        }
        try:
            await notifications_socket(scope, self._to_server.get, self._receive)
        finally:
            await hub.close_current_hub()

    async def _receive(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.accept":
            self._send({"op": "hello"})
        elif message["type"] == "websocket.send":
            self._handle_frame(json.loads(message["text"]))
        elif message["type"] == "websocket.close":
            self._end(f"closed with {message.get('code')}")
            self._to_server.put_nowait({"type": "websocket.disconnect", "code": message.get("code")})

    def _send(self, frame: dict[str, Any]) -> None:
        self._to_server.put_nowait({"type": "websocket.receive", "text": json.dumps(frame)})

    def _handle_frame(self, frame: dict[str, Any]) -> None:
        with self._changed:
            if frame["op"] in ("sync", "change", "jobs"):
                self._apply(frame)
                self._changed.notify_all()
        if frame.get("ack"):
            self._send({"op": "ack", "n": frame["n"]})

    def _apply(self, frame: dict[str, Any]) -> None:
        if frame["op"] != "jobs":
            if frame.get("reset"):
                self.notifications.clear()
                self.jobs.clear()
            elif frame["prev"] > self.seq:
                return self._send({"op": "sync", "seq": self.seq})
            if frame.get("reset") or frame["seq"] >= (self.seq or 0):
                self.seq = frame["seq"]
                self.unread, self.unseen = frame["unread"], frame["unseen"]
        for item in (*frame.get("items", ()), *frame.get("jobs", ())):
            items, order = (self.jobs, "version") if item["kind"] == "job" else (self.notifications, "seq")
            if item["id"] not in items or item[order] >= items[item["id"]][order]:
                items[item["id"]] = item
        ordered = sorted(self.notifications.items(), key=lambda entry: entry[1]["raised"])
        self.notifications = dict(ordered)

    def _find_by_title(self, title: str) -> dict[str, Any] | None:
        return next((item for item in self.notifications.values() if item["title"] == title), None)

    def _find_done_job(self, id: str) -> dict[str, Any] | None:
        item = self.jobs.get(id)
        return item if item and item["done"] else None

    def _load_user(self) -> Any:
        from django.contrib.auth import get_user_model
        from django.db import connections

        model = get_user_model()
        try:
            return self._user if isinstance(self._user, model) else model._default_manager.get(pk=self._user)
        finally:
            connections.close_all()

    def _end(self, reason: str) -> None:
        with self._changed:
            self._ended = self._ended or reason
            self._changed.notify_all()

    def _refuse_in_transaction(self) -> None:
        from notifications.db.transactions import connection

        if connection().in_atomic_block:
            raise RuntimeError(
                "connect() needs a TransactionTestCase or the fixture transactional_db: only committed rows are "
                "pushed, and a TestCase commits nothing."
            )
