"""Resolve the users of WebSocket handshakes, in batches when many come at once, as after a deploy."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from notifications.realtime.auth.sessions import read_users
from notifications.realtime.pool import ThreadPool

MAX_SESSIONS_PER_QUERY = 100
#: Seconds between two queries, so that under load each one resolves many sessions.
QUERY_INTERVAL_SECONDS = 0.02

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
