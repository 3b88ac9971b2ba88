"""The state and the deadline of one call, and the errors that the caller sees."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from socket import EAI_AGAIN
from types import TracebackType
from typing import Any, Self

import aiohttp
from django.utils.translation import gettext

from .errors import BadResponse, CircuitOpen, OutboundError, Refused, TimedOut, Unreachable
from .guard import NOT_PUBLIC, Forbidden, ForbiddenAddress
from .response import Response

logger = logging.getLogger("notifications.outbound")

_ids = count(1)


class Call:
    """One call with its redirects and retries: ``with call`` enforces its deadline.

    ``host`` is the requested host, with its port if the URL has one: the only server that errors name.
    ``stage`` is what the call waits for: ``slot``, ``connection``, ``body``, ``delay`` (before a retry) or, while the
    caller uses chunks of a stream, ``caller``.
    ``elapsed`` is the seconds of the exchanges that have ended, ``body_bytes`` the decompressed size of the body.
    """

    _task: asyncio.Task[Any]

    def __init__(
        self,
        *,
        method: str,
        host: str,
        deadline: float,
        max_bytes: int,
        retries: int,
        guard: bool,
        follows_redirects: bool,
        is_user_url: bool,
    ) -> None:
        self.method = method
        self.host = host
        self.deadline = deadline
        self.max_bytes = max_bytes
        self.retries = retries
        self.guard = guard
        self.follows_redirects = follows_redirects
        self.is_user_url = is_user_url
        self.id = next(_ids)
        self.stage = "slot"
        self.status = 0
        self.attempts = 1
        self.body_bytes = 0
        self.elapsed = 0.0
        self.history: list[Response] = []

    def __enter__(self) -> Self:
        # Like asyncio.timeout(), without its two coroutines, whose cost would show in the time of a call.
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("Outbound calls must be made in an asyncio task.")
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._cancelling = self._task.cancelling()
        self._has_timed_out = False
        self._deadline_at = self._loop.time() + self.deadline
        self._timer = self._loop.call_at(self._deadline_at, self._cancel_at_deadline)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if not self._has_timed_out:
            return
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimedOut(self._timeout_message()) from error

    @contextmanager
    def stopped_deadline(self) -> Iterator[None]:
        """Stop the time of the deadline in the block. Afterwards as many seconds are left as before."""
        seconds = self.seconds_left
        self._timer.cancel()
        try:
            yield
        finally:
            self._deadline_at = self._loop.time() + seconds
            if not self._has_timed_out:
                self._timer = self._loop.call_at(self._deadline_at, self._cancel_at_deadline)

    def _cancel_at_deadline(self) -> None:
        self._has_timed_out = True
        self._task.cancel()

    @property
    def seconds_left(self) -> float:
        return self._deadline_at - self._loop.time()

    @property
    def server(self) -> str:
        """The server that the current request goes to, in words that do not reveal where a redirect led."""
        if not self.history:
            return self.host
        return gettext("the server that {host} redirected to").format(host=self.host)

    def refused_error(self, exc: Forbidden) -> Refused:
        """Return the error for a URL that the guard refused."""
        text = gettext("{host} was not called: {reason}.")
        if self.history:
            text = gettext("{host} redirects to a URL that was not called: {reason}.")
        return Refused(text.format(host=self.host, reason=exc))

    def circuit_open_error(self, seconds: float) -> CircuitOpen:
        """Return the error for a server whose circuit is open for ``seconds`` more."""
        text = gettext("{host} was not called: it has failed too often. Try again in {seconds} s.")
        if self.history:
            text = gettext(
                "{host} redirects to a server that was not called: it has failed too often. "
                "Try again in {seconds} s."
            )
        message = text.format(host=self.host, seconds=max(1, round(seconds)))
        return CircuitOpen(message, retry_after=seconds)

    def translate_error(self, exc: BaseException) -> OutboundError:
        """Return the OutboundError for an error of aiohttp or of the guard."""
        if isinstance(exc, Forbidden):
            return self.refused_error(exc)
        server = self.host
        if self.history:
            server = gettext("The server that {host} redirected to").format(host=self.host)
        if isinstance(exc, aiohttp.ClientConnectorCertificateError):
            return Unreachable(gettext("{server} has no valid certificate.").format(server=server))
        if isinstance(exc, aiohttp.ClientConnectorError):
            if isinstance(exc.os_error, ForbiddenAddress):
                logger.info("Refused a call to %s: the address is %s.", self.server, exc.os_error.reason)
                return self.refused_error(Forbidden(NOT_PUBLIC))
            if isinstance(exc, aiohttp.ClientConnectorDNSError):
                is_transient = exc.os_error.errno == EAI_AGAIN
                text = gettext("{server} could not be found.")
                return _with_transience(Unreachable(text.format(server=server)), is_transient)
            text = gettext("{server} could not be reached.")
            return _with_transience(Unreachable(text.format(server=server)))
        if self.stage == "body":
            text = gettext("The response from {server} ended too early.")
            return _with_transience(BadResponse(text.format(server=self.server)))
        if isinstance(exc, aiohttp.ClientResponseError):
            return BadResponse(gettext("The response from {server} is not HTTP.").format(server=self.server))
        text = gettext("{server} closed the connection without a response.")
        return _with_transience(Unreachable(text.format(server=server)))

    def _timeout_message(self) -> str:
        text = gettext("{host} did not send a complete response within {seconds} s.")
        if self.stage == "slot":
            text = gettext("{host} was not called within {seconds} s: too many other calls were waiting.")
        return text.format(host=self.host, seconds=f"{self.deadline:g}")


def _with_transience(error: OutboundError, is_transient: bool = True) -> OutboundError:
    error.is_transient = is_transient
    return error
