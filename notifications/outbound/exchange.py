"""One request and its answer: checked, let through, sent, and read unless the caller wants to."""

from __future__ import annotations

import asyncio
import errno
from time import monotonic
from typing import Any

import aiohttp

from notifications.jobs.enqueueing.owners import caller_key, running_job

from . import telemetry
from .body import read
from .call import Call
from .circuits import FAILURES, Breaker, Open, circuits
from .config import limits
from .errors import BadResponse, OutboundError
from .guard import Forbidden, ForbiddenAddress, check
from .pools import pool
from .redirects import STATUSES, Ask
from .response import Response
from .slots import slots

#: Errors of a connection that say what this machine lacks, and nothing about the server.
LOCAL_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})


class Exchange:
    """A request that was sent. It has a place at its origin until it is ended."""

    __slots__ = (
        "_breaker",
        "_call",
        "_caller",
        "_enough",
        "_probes",
        "_span",
        "_started",
        "answer",
        "ask",
        "body",
    )

    answer: aiohttp.ClientResponse

    def __init__(self, call: Call, ask: Ask, breaker: Breaker, caller: Any, enough: float) -> None:
        """``enough``: seconds within which a server has to answer."""
        self.ask = ask
        self.body = b""
        self._call = call
        self._breaker: Breaker | None = breaker
        self._caller = caller
        self._enough = enough
        self._probes = (False, False)
        self._span: Any = None
        self._started = monotonic()

    @property
    def leads_on(self) -> bool:
        """Whether the answer is a redirect."""
        return self.answer.status in STATUSES and "Location" in self.answer.headers

    @property
    def running(self) -> float:
        """Seconds since it began; 0 once it has ended, when they are part of ``Call.elapsed``."""
        return monotonic() - self._started if self._breaker else 0.0

    async def send(self, *, checked: bool, whole: bool) -> None:
        """Send the request and receive the head of the answer, and the whole of it if that is wanted."""
        call, ask = self._call, self.ask
        headers = ask.headers
        call.stage = "connection"
        if telemetry.is_active():
            self._span, headers = telemetry.begin(call, ask)
        self.answer = answer = await pool().send(ask, headers, checked=checked)
        call.stage = "body"
        call.status = answer.status
        if answer.status < 200:  # 101: nobody has asked for another protocol
            raise BadResponse(f"The answer of {call.place} is not HTTP.")
        if self.leads_on:
            answer.release()
        elif whole:
            self.body = await read(answer, call.max_bytes, call.place)
            call.received = len(self.body)

    def response(self) -> Response:
        """Return the answer as a value."""
        call, answer = self._call, self.answer
        return Response(
            status=answer.status,
            url=self.ask.target.text,
            headers=answer.headers,
            body=self.body,
            elapsed=call.elapsed,
            attempts=call.attempts,
            history=tuple(call.history),
        )

    def enter(self) -> None:
        """Count the request as one that goes out; raise Open if its circuits do not let it."""
        assert self._breaker
        self._probes = self._breaker.enter(self._caller)

    def end(self, error: BaseException | None = None) -> None:
        """Give everything back, once: after an error also the connection, which may have more of the answer in it."""
        breaker, self._breaker = self._breaker, None
        if breaker is None:
            return
        call, answer = self._call, getattr(self, "answer", None)
        call.elapsed += monotonic() - self._started
        failed = answer.status in FAILURES if answer is not None and error is None else self._failed(error)
        breaker.leave(self._caller, self._probes, failed)
        slots.give_back(self.ask.target.origin)
        if self._span is not None:
            telemetry.end(self._span, answer.status if answer else 0, error)
        if answer is not None:
            answer.close() if error is not None else answer.release()

    def _failed(self, error: BaseException | None) -> bool | None:
        """Whether an error means that the origin has failed; None if nothing is known of it."""
        if isinstance(error, asyncio.CancelledError):
            # At the deadline: it was waiting for the server, and for as long as that may be expected of one.
            waited = monotonic() - self._started
            is_late = self._call.left <= 0 and self._call.stage != "caller" and waited >= self._enough
            return True if is_late else None
        if isinstance(error, aiohttp.ClientConnectorError):
            is_forbidden = isinstance(error.os_error, ForbiddenAddress)
            return None if is_forbidden or error.os_error.errno in LOCAL_ERRORS else True
        if isinstance(error, OutboundError):  # about an answer, which came
            return self.answer.status in FAILURES
        return True if isinstance(error, aiohttp.ClientError) else None


async def exchange(call: Call, ask: Ask, *, whole: bool) -> Exchange:
    """Send one request; return what came of it, ended if ``whole``, which reads the body, or if it is a redirect."""
    origin, now, caller = ask.target.origin, limits(), caller_key()
    try:
        checked = call.guard and not check(ask.target, now)
        breaker = circuits.at(origin)
        breaker.check(caller)
        call.stage = "slot"
        half = call.left / 2
        if not slots.take_now(origin, now.per_host, now.total):
            await slots.take(origin, now.per_host, now.total, running_job(), half)
    except Forbidden as exc:
        raise call.refused(exc) from exc
    except Open as exc:
        raise call.left_alone(exc.seconds) from exc
    run = Exchange(call, ask, breaker, caller, half)
    try:
        run.enter()
        await run.send(checked=checked, whole=whole)
    except Open as exc:
        run.end(exc)
        raise call.left_alone(exc.seconds) from exc
    except aiohttp.ClientError as exc:
        run.end(exc)
        raise call.error(exc) from exc
    except BaseException as exc:
        run.end(exc)
        raise
    if whole or run.leads_on:
        run.end()
    return run
