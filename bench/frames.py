"""Measure the time from enqueueing a job to the frame that brings its notification to a WebSocket client."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from functools import cache

import aiohttp

#: Seconds in which a frame must arrive.
TIMEOUT_SECONDS = 60.0


@cache
def sign_in() -> tuple[int, str]:
    """Return the key of the first user, and the key of a session in which this user is signed in."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
    from django.contrib.sessions.backends.db import SessionStore

    user = get_user_model().objects.order_by("pk").first()
    store = SessionStore()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.save()
    return user.pk, store.session_key


def measure(enqueue: Callable[[int], str], number: int, port: int) -> list[float]:
    """Enqueue one job after the other for a user whose client is connected to the server at ``port``.

    ``enqueue`` takes the key of the user, and returns the id of the job after its commit. Returns the ms from then
    to the frame with the notification of each job; a frame that arrives before ``enqueue`` has returned counts as 0.
    """
    owner, session_key = sign_in()
    return asyncio.run(_measure(enqueue, number, f"http://127.0.0.1:{port}", owner, session_key))


async def _measure(
    enqueue: Callable[[int], str], number: int, base: str, owner: int, session_key: str
) -> list[float]:
    arrived: dict[str, asyncio.Future[float]] = {}
    latencies = []
    loop = asyncio.get_running_loop()

    def frame_of(id: str) -> asyncio.Future[float]:
        return arrived.setdefault(id, loop.create_future())

    async with (
        aiohttp.ClientSession(cookies={"sessionid": session_key}) as http,
        http.ws_connect(
            f"{base}/ws/notifications/", headers={"Origin": base}, protocols=["notifications.v1"]
        ) as ws,
    ):
        await ws.send_str('{"op":"hello","epoch":null,"seq":null}')
        is_greeted = asyncio.Event()

        async def read() -> None:
            async for message in ws:
                now = time.time()
                frame = json.loads(message.data)
                is_greeted.set()
                if frame.get("ack"):
                    await ws.send_str(json.dumps({"op": "ack", "n": frame["n"]}))
                for item in frame.get("items", ()):
                    if item["kind"] == "notification" and item.get("job"):
                        future = frame_of(item["job"])
                        if not future.done():
                            future.set_result(now)

        reading = asyncio.create_task(read())
        await asyncio.wait_for(is_greeted.wait(), TIMEOUT_SECONDS)
        for _ in range(number):
            await asyncio.sleep(random.uniform(0.03, 0.08))
            # Not on the event loop, which reads frames meanwhile.
            id, committed_at = await asyncio.to_thread(lambda: (enqueue(owner), time.time()))
            frame_at = await asyncio.wait_for(frame_of(id), TIMEOUT_SECONDS)
            latencies.append(max(frame_at - committed_at, 0.0) * 1000)
        reading.cancel()
    return latencies
