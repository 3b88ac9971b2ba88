"""Who stands at the door: handshakes that come at once, as after a deploy, are looked up together."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from notifications.realtime.auth.sessions import users_signed_in

if TYPE_CHECKING:
    from notifications.realtime.pool import Pool

MAX_SESSIONS_PER_QUERY = 100
#: Seconds between two lookups at least, so that in a storm each is for many.
PAUSE = 0.02

Waiting = list[tuple[str | None, asyncio.Future]]


class SessionLookup:
    """``await door.who(session)``: who comes alone is looked up at once, in a storm some wait 20 ms to go together."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._waiting: Waiting = []
        self._asking = 0
        self._pausing = False

    async def who(self, session: str | None) -> Any | None:
        """Return the key (pk) of the user who is signed in in this session, None if nobody is. Raises as
        ``sessions.signed_in`` does."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((session, future))
        self._ask()
        return await future

    def _ask(self) -> None:
        if self._waiting and not self._pausing and self._asking < self.pool.size:
            some, self._waiting = (
                self._waiting[:MAX_SESSIONS_PER_QUERY],
                self._waiting[MAX_SESSIONS_PER_QUERY:],
            )
            self._ask_for(some)
            self._pausing = True
            asyncio.get_running_loop().call_later(PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._pausing = False
        self._ask()

    def _ask_for(self, some: Waiting) -> None:
        self._asking += 1
        sessions = {session for session, _ in some if session}
        self.pool.run(users_signed_in, sessions).add_done_callback(partial(self._asked, some))

    def _asked(self, some: Waiting, asked: asyncio.Future) -> None:
        self._asking -= 1
        error = asked.exception()
        if error and len(some) > 1:
            # It may be one of them alone whose backend fails.
            for one in some:
                self._ask_for([one])
        for session, future in some:
            if future.done():  # the client has gone
                continue
            if error is None:
                future.set_result(asked.result().get(session))
            elif len(some) == 1:
                future.set_exception(error)
        self._ask()
