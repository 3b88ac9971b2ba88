"""What is checked of WebSocket handshakes: the Origin, and the user, in batches when many come at once.

Browsers do not apply the same-origin policy to WebSockets.
"""

from __future__ import annotations

import asyncio
import logging
import re
from functools import partial
from typing import Any

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from notifications.conf import settings
from notifications.extension.log_throttle import count_for_log
from notifications.realtime.auth.sessions import read_users
from notifications.realtime.pool import ThreadPool

logger = logging.getLogger(__name__)

MAX_SESSIONS_PER_QUERY = 100
#: Seconds between two queries, so that under load each one resolves many sessions.
QUERY_INTERVAL_SECONDS = 0.02

ORIGIN_PATTERN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
DEFAULT_PORTS = {"http": "80", "https": "443"}
MAX_LOGGED_ORIGIN_CHARACTERS = 100

Batch = list[tuple[str | None, asyncio.Future[Any]]]


class SessionLookup:
    """Resolve session keys to users. A single one is read immediately; under load they wait up to 20 ms for a batch."""

    def __init__(self, pool: ThreadPool) -> None:
        self.pool = pool
        self._waiting: Batch = []
        self._running_queries = 0
        self._is_pausing = False

    async def resolve(self, session_key: str | None) -> Any | None:
        """Return the key (pk) of the user who is signed in with this session, or None.

        Raises the errors that ``sessions.read_user()`` raises.
        """
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((session_key, future))
        self._start_query()
        return await future

    def _start_query(self) -> None:
        if self._waiting and not self._is_pausing and self._running_queries < self.pool.size:
            batch = self._waiting[:MAX_SESSIONS_PER_QUERY]
            del self._waiting[:MAX_SESSIONS_PER_QUERY]
            self._query(batch)
            self._is_pausing = True
            asyncio.get_running_loop().call_later(QUERY_INTERVAL_SECONDS, self._end_pause)

    def _end_pause(self) -> None:
        self._is_pausing = False
        self._start_query()

    def _query(self, batch: Batch) -> None:
        self._running_queries += 1
        session_keys = {session_key for session_key, _ in batch if session_key}
        self.pool.run(read_users, session_keys).add_done_callback(partial(self._settle, batch))

    def _settle(self, batch: Batch, query: asyncio.Future[Any]) -> None:
        self._running_queries -= 1
        error = query.exception()
        if error and len(batch) > 1:
            # The backend of one user may have failed, which must not refuse the others.
            for entry in batch:
                self._query([entry])
        for session_key, future in batch:
            if future.done():  # the client has disconnected
                continue
            if error is None:
                future.set_result(query.result().get(session_key))
            elif len(batch) == 1:
                future.set_exception(error)
        self._start_query()


def is_origin_allowed(origins: list[bytes], request: HttpRequest) -> bool:
    """Return whether there is exactly one Origin header and it is allowed.

    Allowed are the request's own scheme, host and port, and those listed in ``NOTIFICATIONS["ORIGINS"]``.
    """
    if len(origins) != 1:
        return False
    origin = parse_origin(origins[0].decode("latin-1"))
    if origin is None:
        return False
    try:
        own_origin = parse_origin(f"{request.scheme}://{request.get_host()}")
    except DisallowedHost:
        return False
    return origin == own_origin or origin in map(parse_origin, settings.ORIGINS)


def log_refused_origin(origins: list[bytes], request: HttpRequest) -> None:
    """Log which Origin was not allowed, and what to set. Once a minute in a process: clients choose what they send."""
    if not (count := count_for_log("refused origin")):
        return
    sent = ", ".join(repr(origin[:MAX_LOGGED_ORIGIN_CHARACTERS].decode("latin-1")) for origin in origins[:2])
    try:
        own = repr(f"{request.scheme}://{request.get_host()}"[:MAX_LOGGED_ORIGIN_CHARACTERS])
    except DisallowedHost:
        own = "a host that ALLOWED_HOSTS does not have"
    logger.warning(
        "Refused a WebSocket because of its Origin (%d times since the last such line): %s, the server is %s. If both "
        "are this site, have the proxy forward Host and set SECURE_PROXY_SSL_HEADER; to allow the pages of another "
        "site, list its origin in NOTIFICATIONS['ORIGINS'].",
        count,
        sent or "no Origin",
        own,
    )


def parse_origin(origin: str) -> tuple[str, str, str] | None:
    """Return scheme, host and port of an origin, in lower case, with the default port. None if it is malformed."""
    match = ORIGIN_PATTERN.fullmatch(origin.lower())
    if match is None:
        return None
    scheme, host, port = match.groups()
    if port is not None and not 0 < int(port) < 65536:
        return None
    return scheme, host, str(int(port)) if port else DEFAULT_PORTS.get(scheme, "")
