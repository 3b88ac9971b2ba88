"""Ask authenticators of the project again whether they still accept the clients of event streams without a session.

Authenticators are code of the project, and may wait for other servers. So they are called on threads of their own, for
one user at a time each: those of a user about whom one does not answer wait for it, and no others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from notifications.db.threads import DaemonExecutor, NoThread
from notifications.realtime import close_reasons
from notifications.realtime.close_reasons import Bye

logger = logging.getLogger(__name__)

THREADS = 4
#: Seconds after which another thread takes the calls of one that does not answer.
ANSWER_TIMEOUT_SECONDS = 10.0


class CredentialStream(Protocol):
    """An event stream. ``is_unconfirmed`` is set when a question is due, and reset by its answer."""

    user: Any
    is_unconfirmed: bool

    def is_accepted(self) -> bool:
        """Ask the authenticators, in a thread."""

    def end(self) -> None: ...

    def close(self, bye: Bye) -> None: ...


class CredentialChecker:
    """Ask about the unconfirmed streams of a user, close those that are refused and end those without an answer.

    ``find_streams(users)`` returns the connected clients of these user keys; other ones are never unconfirmed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        find_streams: Callable[[Iterable[Any]], Sequence[Any]],
    ) -> None:
        self._loop = loop
        self._find_streams = find_streams
        self._executor = DaemonExecutor(THREADS, "notifications-credentials", keep_connections=True)
        self._calls: dict[Any, Future[list[bool | None]]] = {}

    def check(self, user: Any) -> None:
        """Ask about the unconfirmed streams of a user (key) when the previous call for this user has returned."""
        streams: list[CredentialStream] = [each for each in self._find_streams([user]) if each.is_unconfirmed]
        if not streams or user in self._calls:
            return
        try:
            call = self._executor.submit(_ask, streams)
        except NoThread as exc:  # they are ended when the next question is due
            logger.warning("Could not ask authenticators again: %s", exc)
            return
        self._calls[user] = call
        timer = self._loop.call_later(ANSWER_TIMEOUT_SECONDS, self._give_up, call)

        def handle_answers() -> None:
            timer.cancel()
            del self._calls[user]
            if not call.cancelled() and call.exception() is None:
                for stream, is_accepted in zip(streams, call.result(), strict=True):
                    self._handle_answer(stream, is_accepted)
            self.check(user)

        def handle_answers_soon(call: Future[Any]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed in the meantime
                self._loop.call_soon_threadsafe(handle_answers)

        call.add_done_callback(handle_answers_soon)

    def end_threads(self) -> list[threading.Thread]:
        """End the threads after their current calls, and return them."""
        return self._executor.end()

    def _handle_answer(self, stream: CredentialStream, is_accepted: bool | None) -> None:
        stream.is_unconfirmed = False
        if is_accepted is None:
            stream.end()
        elif not is_accepted:
            stream.close(close_reasons.SIGNED_OUT)

    def _give_up(self, call: Future[Any]) -> None:
        # One that has not begun is made again.
        if not call.cancel():
            self._executor.detach(call)


def _ask(streams: list[CredentialStream]) -> list[bool | None]:
    """Return for each whether it is still accepted, or None if an authenticator raised an error."""
    return [_ask_about(stream) for stream in streams]


def _ask_about(stream: CredentialStream) -> bool | None:
    try:
        return stream.is_accepted()
    except BaseException as exc:  # SystemExit would end the thread
        logger.warning("Could not ask an authenticator again: %r", exc)
        return None
