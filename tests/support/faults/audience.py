"""A WebSocket client in a thread, which follows a user's stream while processes die."""

import asyncio
import threading

from tests.support.faults.clients import WebSocketClient
from tests.support.waiting import wait_until


class Audience:
    """Clients of these users. `users` are dictionaries with `user` and `session`."""

    def __init__(self, users, urls, rng):
        self.clients = [WebSocketClient(each["user"], each["session"], urls, rng) for each in users]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        wait_until(lambda: all(client.resets for client in self.clients), what="all clients to connect")
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(30)

    def _run(self):
        async def follow():
            await asyncio.gather(*(client.run() for client in self.clients))

        async def main():
            self._task = asyncio.create_task(follow())
            await asyncio.gather(self._task, return_exceptions=True)

        self._loop.run_until_complete(main())
        self._loop.close()


def assert_received(client, ids, timeout=30):
    """Check that a client has received these notifications, each once, in their order."""
    wait_until(
        lambda: len(client.received) >= len(ids),
        timeout=timeout,
        what=f"{len(ids)} notifications at {client}",
    )
    assert client.received == ids, client
    assert not client.failures, f"{client}: {client.failures}"
    assert client.resets == 1, f"{client} received another snapshot."
