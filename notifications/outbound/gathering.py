"""Many calls at once: ``gather()``."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, TypeVar, Unpack
from urllib.parse import urlsplit

from notifications.conf import settings

from .client import request
from .errors import OutboundError
from .exchange import gathering
from .request import RequestOptions
from .response import Response

R = TypeVar("R", str, Mapping[str, Any])


async def gather(
    requests: Iterable[R], *, limit: int = 50, **options: Unpack[RequestOptions]
) -> AsyncIterator[tuple[R, Response | OutboundError]]:
    """Send many requests, and yield each with its response or error as soon as it has ended.

    >>> async for url, outcome in outbound.gather(urls, limit=20, deadline=5.0):
    ...     if isinstance(outcome, outbound.OutboundError):
    ...         logger.warning("%s: %s", url, outcome)

    ``requests``: URLs, which are sent a GET, or mappings of arguments of ``request``, as ``{"method": "POST", "url":
    url, "json": data}``. What is yielded is the same object.
    ``limit``: how many run at once. Hosts take turns, and each runs at most ``OUTBOUND_PER_HOST``.
    ``options``: arguments of ``request`` for all of them. A mapping's own come first.

    The deadline of a call begins when it runs: waiting for a place is not part of it. While the caller handles what was
    yielded, calls that run go on, and no further ones begin. Leaving the loop cancels what still runs.

    Raises ``ValueError`` or ``TypeError`` for invalid arguments; the other calls are cancelled then.
    """
    if not isinstance(limit, int) or limit < 1:
        raise ValueError(f"limit is {limit!r}. It must be an integer of 1 or more.")
    caller = object()
    waiting: OrderedDict[str, deque[R]] = OrderedDict()
    for each in requests:
        waiting.setdefault(_host_of(each), deque()).append(each)
    running: dict[asyncio.Task[Response], tuple[str, R]] = {}

    def begin_calls() -> None:
        busy = Counter(host for host, _ in running.values())
        while len(running) < limit:
            host = next((host for host in waiting if busy[host] < settings.OUTBOUND_PER_HOST), None)
            if host is None:
                return
            each = waiting[host].popleft()
            waiting.move_to_end(host)
            if not waiting[host]:
                del waiting[host]
            running[asyncio.create_task(_call(each, options, caller))] = host, each
            busy[host] += 1

    try:
        begin_calls()
        while running:
            ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            outcomes = [(running.pop(call)[1], _outcome(call)) for call in ended]
            begin_calls()
            for each, outcome in outcomes:
                yield each, outcome
    finally:
        for call in running:
            call.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _call(each: str | Mapping[str, Any], options: RequestOptions, caller: object) -> Response:
    gathering.set(caller)
    arguments = {"url": each} if isinstance(each, str) else each
    return await request(**{"method": "GET", **options, **arguments})


def _outcome(call: asyncio.Task[Response]) -> Response | OutboundError:
    error = call.exception()
    if isinstance(error, OutboundError):
        return error
    return call.result()


def _host_of(each: str | Mapping[str, Any]) -> str:
    """Return the host by which calls take turns, "" for a URL that the call will refuse."""
    if not isinstance(each, str | Mapping):
        raise TypeError(
            f"A request is {each!r}. It must be a URL, or a mapping of arguments of outbound.request()."
        )
    try:
        return urlsplit(each if isinstance(each, str) else each["url"]).netloc.lower()
    except (KeyError, ValueError, AttributeError):
        return ""
