"""Send messages to users, with this app or with stock, in the server or from another process; describe the server.

``python -m bench.messages RATE SECONDS`` notifies all users in turn, RATE notifications a second in all.
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
    """Return an ASGI application that also handles ``/send/``; start to count queries, and freeze loaded objects
    for the garbage collector, as the site does."""

    async def with_messages(scope, receive, send):
        if scope["type"] != "http" or not scope["path"].startswith("/send/"):
            return await application(scope, receive, send)
        # Without Django, because the request of the benchmark is not a cost of the push.
        numbers = scope["query_string"].decode().split(",")
        await send_messages(scope["path"].removeprefix("/send/"), *map(float, filter(None, numbers)))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    count_queries()
    gc.collect()
    gc.freeze()
    return with_messages


async def send_messages(path: str, rate: float = 0.0, seconds: float = 0.0) -> None:
    """Handle a path under ``/send/``: ``app`` and ``stock`` send to all users at once, ``in-turn-…`` to all in turn,
    at a rate for some seconds."""
    if path == "app":
        await asyncio.to_thread(notify_all)
    elif path == "stock":
        await _send(await asyncio.to_thread(_all_users), str(time.time()))
    elif path == "in-turn-app":
        threading.Thread(target=notify_in_turn, args=(rate, seconds), daemon=True).start()
    elif path == "in-turn-stock":
        task = asyncio.create_task(_send_in_turn(rate, seconds))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


def notify_all() -> None:
    """Notify all users; the title is the time before the row is written."""
    from notifications.api import notify

    notify(_all_users(), str(time.time()), body="12,400 rows", url="/exports/7/")


def notify_in_turn(rate: float, seconds: float) -> None:
    from notifications.api import notify

    for user, wait in _schedule(_all_users(), rate, seconds):
        time.sleep(wait)
        notify(user, str(time.time()), body="12,400 rows", url="/exports/7/")


async def setup(request: HttpRequest) -> JsonResponse:
    """Return the setup of the server: loop, parsers, layer, garbage collection, and modules; and the queries of each
    table."""
    from channels.layers import get_channel_layer

    loop = type(asyncio.get_running_loop())
    found = {
        "python": platform.python_version(),
        "loop": f"{loop.__module__}.{loop.__qualname__}",
        "layer": type(get_channel_layer()).__name__,
        "gc": f"{'on' if gc.isenabled() else 'off'}, thresholds {gc.get_threshold()}, frozen {gc.get_freeze_count()}",
        "queries": dict(queries),
        "modules": len(sys.modules),
    }
    if "uvicorn" in sys.modules:
        from uvicorn.protocols.http.auto import AutoHTTPProtocol
        from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

        for what, protocol in (("http", AutoHTTPProtocol), ("websocket", AutoWebSocketsProtocol)):
            found[what] = getattr(protocol, "__name__", "none")
    return JsonResponse(found)


def count_queries() -> None:
    """Count the statements of this process from now on, on every connection, by verb and table."""
    from django.db.backends.signals import connection_created

    def count(execute, sql: str, params: Any, many: bool, context: dict) -> Any:
        words = sql.replace('"', "").replace("(", " ").split()
        table = next((name for word, name in pairwise(words) if word in ("FROM", "INTO", "UPDATE")), "")
        queries[f"{words[0]} {table}"] += 1
        return execute(sql, params, many, context)

    def add_wrapper(connection, **kwargs) -> None:
        if count not in connection.execute_wrappers:
            connection.execute_wrappers.append(count)

    connection_created.connect(add_wrapper, weak=False)


async def _send_in_turn(rate: float, seconds: float) -> None:
    for user, wait in _schedule(await asyncio.to_thread(_all_users), rate, seconds):
        await asyncio.sleep(wait)
        await _send([user], str(time.time()))


def _schedule(users: list[int], rate: float, seconds: float) -> Iterator[tuple[int, float]]:
    """Yield users in turn, with the seconds to wait before each."""
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


def _all_users() -> list[int]:
    from django.contrib.auth import get_user_model

    return list(get_user_model().objects.order_by("pk").values_list("pk", flat=True))


if __name__ == "__main__":
    import django

    django.setup()
    notify_in_turn(float(sys.argv[1]), float(sys.argv[2]))
