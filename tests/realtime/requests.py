"""An in-memory HTTP client for Django's ASGI handler."""

import asyncio
import json

from django.core.asgi import get_asgi_application

from tests.realtime.conftest import TIMEOUT_SECONDS

API = "/notifications/api/"


class Request:
    """A sent request. Call `wait_for_response()`, which sets status and headers, then `json()` or `receive()`."""

    def __init__(
        self, path, cookie=None, *, method="GET", headers=None, body=b"", below=API, app=None, address=None
    ):
        path, _, query = path.partition("?")
        headers = [(b"host", b"testserver")] + [
            (name.lower().encode(), value.encode()) for name, value in (headers or {}).items()
        ]
        if cookie:
            headers.append((b"cookie", cookie.encode()))
        scope = {
            "type": "http",
            "method": method,
            "path": below + path,
            "query_string": query.encode(),
            "root_path": "",
            "headers": headers,
            "client": (address, 1) if address else None,
        }
        self.incoming, self.outgoing = asyncio.Queue(), asyncio.Queue()
        self.unblocked = asyncio.Event()
        self.unblocked.set()
        self.body, self.size, self.ended = b"", 0, False
        self.incoming.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self.task = asyncio.create_task((app or get_asgi_application())(scope, self.incoming.get, self._send))

    async def _send(self, message):
        await self.unblocked.wait()
        self.outgoing.put_nowait(message)

    async def wait_for_response(self, timeout=TIMEOUT_SECONDS):
        """Wait until the response begins. Returns self."""
        message = await asyncio.wait_for(self.outgoing.get(), timeout)
        self.status = message["status"]
        self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        return self

    async def read_body(self):
        """Return the whole body."""
        while not self.ended:
            await self._more()
        return self.body

    async def json(self):
        return json.loads(await self.read_body())

    async def receive(self, name=None):
        """Return the fields of the next event, with parsed data; {"comment": …} for a comment; None at the end."""
        while b"\n\n" not in self.body:
            if self.ended:
                return None
            await self._more()
        text, _, self.body = self.body.partition(b"\n\n")
        event = dict(line.split(":", 1) for line in text.decode().split("\n"))
        event = {field or "comment": value.removeprefix(" ") for field, value in event.items()}
        if "data" in event:
            event["data"] = json.loads(event["data"])
        assert name is None or event.get("event") == name, event
        return event

    async def start(self):
        """Wait for the response. Returns the sync event that completes the catch-up."""
        await self.wait_for_response()
        assert (self.status, self.headers["content-type"]) == (200, "text/event-stream")
        assert await self.receive() == {"retry": "3000"}
        while (sync := await self.receive("sync"))["data"]["more"]:
            pass
        return sync

    def disconnect(self):
        self.incoming.put_nowait({"type": "http.disconnect"})

    async def wait_until_closed(self):
        await asyncio.wait_for(asyncio.wait([self.task]), TIMEOUT_SECONDS)

    async def _more(self):
        message = await asyncio.wait_for(self.outgoing.get(), TIMEOUT_SECONDS)
        self.body += message.get("body", b"")
        self.size += len(message.get("body", b""))
        self.ended = not message.get("more_body")
