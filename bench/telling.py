"""Telling users something, ours and stock, inside the server or from another process; and how the server is set up.

``python -m bench.telling RATE SECONDS`` tells everybody in turn, so many notifications a second in all.
"""

from __future__ import annotations

import asyncio
import gc
import platform
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle, pairwise
from typing import Any

from django.http import HttpRequest, JsonResponse

#: As much to encode as the frame of a notification.
FILLER = "x" * 300
queries: Counter[str] = Counter()
_tasks: set[asyncio.Task] = set()


def measured(application: Any) -> Any:
    """Return an ASGI application with the paths under ``/tell/`` before it. From now on queries are counted, and what
    is loaded is out of the garbage collector's way, as the site has it."""

    async def with_telling(scope, receive, send):
        if scope["type"] != "http" or not scope["path"].startswith("/tell/"):
            return await application(scope, receive, send)
        # Past Django: what a request of the measurement itself costs is no cost of the push.
        numbers = scope["query_string"].decode().split(",")
        await tell(scope["path"].removeprefix("/tell/"), *map(float, filter(None, numbers)))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    count_queries()
    gc.collect()
    gc.freeze()
    return with_telling


async def tell(path: str, rate: float = 0.0, seconds: float = 0.0) -> None:
    """Do what a path under ``/tell/`` says: ``ours`` and ``stock`` tell everybody at once, ``keep-…`` all in turn,
    so many a second in all, so many seconds long."""
    if path == "ours":
        await asyncio.to_thread(tell_everybody)
    elif path == "stock":
        await _send(await asyncio.to_thread(_everybody), str(time.time()))
    elif path == "keep-ours":
        threading.Thread(target=keep_telling, args=(rate, seconds), daemon=True).start()
    elif path == "keep-stock":
        task = asyncio.create_task(_keep_sending(rate, seconds))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


def tell_everybody() -> None:
    """One notification to everybody; its title is the time before it was written."""
    from notifications.api import notify

    notify(_everybody(), str(time.time()), body="12,400 rows", url="/exports/7/")


def keep_telling(rate: float, seconds: float) -> None:
    from notifications.api import notify

    for user, wait in _paced(_everybody(), rate, seconds):
        time.sleep(wait)
        notify(user, str(time.time()), body="12,400 rows", url="/exports/7/")


async def setup(request: HttpRequest) -> JsonResponse:
    """What runs here: server, loop, parsers, layer, garbage collection; and how often each table was queried."""
    from channels.layers import get_channel_layer

    loop = type(asyncio.get_running_loop())
    found = {
        "python": platform.python_version(),
        "loop": f"{loop.__module__}.{loop.__qualname__}",
        "layer": type(get_channel_layer()).__name__,
        "gc": f"{'on' if gc.isenabled() else 'off'}, thresholds {gc.get_threshold()}, frozen {gc.get_freeze_count()}",
        "queries": dict(queries),
    }
    if "uvicorn" in sys.modules:
        from uvicorn.protocols.http.auto import AutoHTTPProtocol
        from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

        for what, protocol in (("http", AutoHTTPProtocol), ("websocket", AutoWebSocketsProtocol)):
            found[what] = getattr(protocol, "__name__", "none")
    return JsonResponse(found)


def count_queries() -> None:
    """Count each statement that Django runs in this process from now on, on every connection, by verb and table."""
    from django.db.backends.signals import connection_created

    def count(execute, sql: str, params: Any, many: bool, context: dict) -> Any:
        words = sql.replace('"', "").replace("(", " ").split()
        table = next((name for word, name in pairwise(words) if word in ("FROM", "INTO", "UPDATE")), "")
        queries[f"{words[0]} {table}"] += 1
        return execute(sql, params, many, context)

    def connected(connection, **kwargs) -> None:
        if count not in connection.execute_wrappers:
            connection.execute_wrappers.append(count)

    connection_created.connect(connected, weak=False)


async def _keep_sending(rate: float, seconds: float) -> None:
    for user, wait in _paced(await asyncio.to_thread(_everybody), rate, seconds):
        await asyncio.sleep(wait)
        await _send([user], str(time.time()))


def _paced(users: list[int], rate: float, seconds: float) -> Iterator[tuple[int, float]]:
    """Users in turn, and how long to wait before each is told."""
    start = time.monotonic()
    for number, user in enumerate(cycle(users)):
        due = start + number / rate
        if number >= rate * seconds:
            return
        yield user, max(0.0, due - time.monotonic())


async def _send(users: list[int], at: str) -> None:
    from channels.layers import get_channel_layer

    item = {"title": at, "body": "12,400 rows", "url": "/exports/7/", "filler": FILLER}
    for user in users:
        await get_channel_layer().group_send(f"user-{user}", {"type": "note", "item": item})


def _everybody() -> list[int]:
    from django.contrib.auth import get_user_model

    return list(get_user_model().objects.order_by("pk").values_list("pk", flat=True))


if __name__ == "__main__":
    import django

    django.setup()
    keep_telling(float(sys.argv[1]), float(sys.argv[2]))
