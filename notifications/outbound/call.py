"""What one call knows of itself on its way, and how it tells what went wrong."""

from __future__ import annotations

import asyncio
import logging
from itertools import count
from socket import EAI_AGAIN
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from . import events
from .errors import BadResponse, CircuitOpen, OutboundError, Refused, TimedOut, Unreachable
from .guard import NOT_PUBLIC, Forbidden, ForbiddenAddress

if TYPE_CHECKING:
    from .response import Response

logger = logging.getLogger("notifications.outbound")

_ids = count(1)


class Call:
    """One call with its redirects and retries: ``with call`` holds it to its deadline.

    ``subject`` is the host and port that were asked for, the only place that errors name.
    ``stage`` is what is being waited for: ``slot``, ``connection``, ``body``, ``pause`` or, while
    pieces of a stream are used, ``caller``.
    """

    __slots__ = (
        "_cancelling",
        "_is_late",
        "_loop",
        "_task",
        "_timer",
        "attempts",
        "began",
        "deadline",
        "elapsed",
        "ends",
        "guard",
        "history",
        "id",
        "max_bytes",
        "method",
        "received",
        "retries",
        "stage",
        "status",
        "subject",
    )

    _task: asyncio.Task[Any]

    def __init__(
        self, *, method: str, subject: str, deadline: float, max_bytes: int, retries: int, guard: bool
    ) -> None:
        self.method = method
        self.subject = subject
        self.deadline = deadline
        self.max_bytes = max_bytes
        self.retries = retries
        self.guard = guard
        self.id = next(_ids)
        self.stage = "slot"
        self.status = 0
        self.attempts = 1
        self.received = 0
        self.elapsed = 0.0
        self.history: list[Response] = []

    def __enter__(self) -> Self:
        # As asyncio.timeout() does it, without its two coroutines, which a call would feel.
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("Outbound calls are made in a task.")
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._cancelling = self._task.cancelling()
        self._is_late = False
        self.began = monotonic()
        self.ends = self._loop.time() + self.deadline
        self._timer = self._loop.call_at(self.ends, self._end)
        events.started(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        try:
            if self._is_late and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                cause, error = error, TimedOut(self._late())
                raise error from cause
        finally:
            events.ended(self, error)

    def _end(self) -> None:
        self._is_late = True
        self._task.cancel()

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.ends - self._loop.time()

    @property
    def place(self) -> str:
        """The server that is spoken to now, without telling where a redirect led."""
        return f"the server that {self.subject} redirected to" if self.history else self.subject

    def refused(self, exc: Forbidden) -> Refused:
        """Return what the guard said as an error for a person."""
        if self.history:
            return Refused(f"{self.subject} redirects to a URL that was not called: {exc}.")
        return Refused(f"{self.subject} was not called: {exc}.")

    def left_alone(self, seconds: float) -> CircuitOpen:
        """Return the error for a server whose circuit is open."""
        where = f"{self.subject} redirects to a server that" if self.history else f"{self.subject}"
        words = f"{where} was not called: it has failed too often. It is tried again in {max(1, round(seconds))} s."
        return CircuitOpen(words, retry_after=seconds)

    def error(self, exc: BaseException) -> OutboundError:
        """Return an error of aiohttp or of the guard as one of ours."""
        if isinstance(exc, Forbidden):
            return self.refused(exc)
        place = self.place[0].upper() + self.place[1:] if self.history else self.place
        if isinstance(exc, aiohttp.ClientConnectorCertificateError):
            return Unreachable(f"{place} does not show a valid certificate.")
        if isinstance(exc, aiohttp.ClientConnectorError):
            if isinstance(exc.os_error, ForbiddenAddress):
                logger.info("Refused a call to %s: the address is %s.", self.place, exc.os_error.why)
                return self.refused(Forbidden(NOT_PUBLIC))
            if isinstance(exc, aiohttp.ClientConnectorDNSError):
                again = exc.os_error.errno == EAI_AGAIN
                return _passing(Unreachable(f"{place} could not be found."), again)
            return _passing(Unreachable(f"{place} could not be reached."))
        if self.stage == "body":
            return _passing(BadResponse(f"The answer of {self.place} broke off in the middle."))
        if isinstance(exc, aiohttp.ClientResponseError):
            return BadResponse(f"The answer of {self.place} is not HTTP.")
        return _passing(Unreachable(f"{place} closed the connection without an answer."))

    def _late(self) -> str:
        if self.stage == "slot":
            return (
                f"{self.subject} was not called within {self.deadline:g} s: too many other calls came first."
            )
        return f"There was no complete answer of {self.subject} within {self.deadline:g} s."


def _passing(error: OutboundError, may_pass: bool = True) -> OutboundError:
    error.may_pass = may_pass
    return error
