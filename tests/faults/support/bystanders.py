"""Measure how long other clients wait during an attack: 100 sockets, pinged in turn every 20 ms, and new clients."""

import asyncio
import json
import threading
import time
from collections import deque
from dataclasses import dataclass, field

import aiohttp

SOCKET_COUNT = 100
PING_INTERVAL_SECONDS = 0.02
NEW_CLIENT_INTERVAL_SECONDS = 0.1


@dataclass
class Waits:
    """Seconds until each response."""

    beats: list = field(default_factory=list)
    new_clients: list = field(default_factory=list)

    @property
    def worst(self):
        return max([*self.beats, *self.new_clients], default=0.0)


class Bystanders:
    """Clients in their own thread; `measure(attack)` returns how long they waited during it."""

    def __init__(self, site, session):
        self.site, self.session = site, session
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.sockets = deque()  # Those without a pending ping.
        self.run(self._open())

    def run(self, coroutine, timeout=60):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def measure(self, attack, *arguments):
        """Run an attack in this thread, and return how long other clients waited until shortly after its end."""
        ended = threading.Event()
        probing = asyncio.run_coroutine_threadsafe(self._probe(ended), self.loop)
        try:
            attack(*arguments)
        finally:
            ended.set()
        return probing.result(120)

    def close(self):
        self.run(self._close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def _open(self):
        self.http = aiohttp.ClientSession(
            cookies={"sessionid": self.session}, connector=aiohttp.TCPConnector(limit=0, force_close=True)
        )
        for _ in range(SOCKET_COUNT):
            socket = await self.http.ws_connect(
                f"{self.site.url}/ws/notifications/", headers={"Origin": self.site.url}
            )
            await socket.send_str('{"op":"hello","epoch":null,"seq":null}')
            await self._wait_for(socket, "sync")
            self.sockets.append(socket)

    async def _close(self):
        for socket in self.sockets:
            await socket.close()
        await self.http.close()

    async def _probe(self, ended):
        waits = Waits()
        tasks, last_new = [], 0.0
        while not ended.is_set():
            now = time.monotonic()
            if self.sockets:
                tasks.append(asyncio.create_task(self._beat(self.sockets.popleft(), waits.beats)))
            if now - last_new >= NEW_CLIENT_INTERVAL_SECONDS:
                last_new = now
                tasks.append(asyncio.create_task(self._connect_new_client(waits.new_clients)))
            await asyncio.sleep(PING_INTERVAL_SECONDS)
        await asyncio.gather(*tasks)
        return waits

    async def _beat(self, socket, waits):
        started = time.monotonic()
        await socket.send_str('{"op":"ping"}')
        await self._wait_for(socket, "beat")
        waits.append(time.monotonic() - started)
        self.sockets.append(socket)

    async def _connect_new_client(self, waits):
        """Send a request of a new client, to a view on the event loop without Django."""
        started = time.monotonic()
        async with self.http.get(f"{self.site.url}/upstream/ok") as response:
            await response.read()
        waits.append(time.monotonic() - started)

    async def _wait_for(self, socket, op):
        while True:
            frame = json.loads(await socket.receive_str(timeout=100))
            if frame.get("ack"):
                await socket.send_str(json.dumps({"op": "ack", "n": frame["n"]}))
            if frame["op"] == op:
                return
