"""One request and its response, with the slot and the circuits that it uses."""

from __future__ import annotations

import asyncio
import errno
from contextlib import ExitStack
from contextvars import ContextVar
from time import monotonic
from typing import Any, Self

import aiohttp
from django.utils.translation import gettext

from notifications.conf import settings
from notifications.context import caller_key, running_attempt

from . import telemetry
from .body import read
from .call import Call
from .circuits import FAILURE_STATUSES, CallNotPermitted, OriginCircuits, circuits
from .errors import BadResponse, OutboundError
from .gates import read_gates
from .guard import Forbidden, ForbiddenAddress
from .pools import get_pool
from .request import REDIRECT_STATUSES, Request
from .response import Response, parse_retry_after
from .slots import slots

#: Errors of a connection that mean that this machine lacks a resource, and nothing about the server.
LOCAL_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})

#: The ``gather()`` that makes the calls of this context: waiting for a slot is no part of their deadlines.
gathering: ContextVar[object | None] = ContextVar("notifications_gathering", default=None)


class Exchange:
    """A request that was sent. It holds a slot of its origin until ``end()``, but those of the app's own senders."""

    client_response: aiohttp.ClientResponse

    def __init__(
        self,
        call: Call,
        request: Request,
        origin_circuits: OriginCircuits,
        caller: Any,
        min_failure_seconds: float,
        has_slot: bool,
    ) -> None:
        """Take over a slot of the request's origin, if the caller has acquired one.

        ``min_failure_seconds``: a deadline that passes sooner after sending does not count as the server's failure.
        """
        self.request = request
        self.body = b""
        self._call = call
        self._circuits: OriginCircuits | None = origin_circuits
        self._caller = caller
        self._min_failure_seconds = min_failure_seconds
        self._has_slot = has_slot
        self._probes = (False, False)
        self._span: Any = None
        self._started_at = monotonic()

    @property
    def is_redirect(self) -> bool:
        """Whether the response is a redirect that the call follows."""
        response = self.client_response
        is_redirect = response.status in REDIRECT_STATUSES and "Location" in response.headers
        return is_redirect and self._call.follows_redirects

    @property
    def running_seconds(self) -> float:
        """Seconds since the start; 0 after ``end()``, which adds them to ``Call.elapsed``."""
        return monotonic() - self._started_at if self._circuits else 0.0

    async def send(self, *, is_guarded: bool, read_body: bool) -> None:
        """Send the request and receive the head of the response, and the body if ``read_body``."""
        call, request = self._call, self.request
        headers = request.headers
        call.stage = "connection"
        if telemetry.is_active():
            self._span, headers = telemetry.start_span(call, request)
        client_response = await get_pool().send(request, headers, is_guarded=is_guarded)
        self.client_response = client_response
        call.stage = "body"
        call.status = client_response.status
        for gate in read_gates():
            head = client_response.headers
            gate.learn(call, request.target, client_response.status, head, parse_retry_after(head))
        if client_response.status < 200:  # 101, although no request asks for another protocol
            raise BadResponse(gettext("The response from {server} is not HTTP.").format(server=call.server))
        if self.is_redirect:
            client_response.release()
        elif read_body:
            self.body = await read(client_response, call.max_bytes, call.server)
            call.body_bytes = len(self.body)

    def to_response(self) -> Response:
        call, client_response = self._call, self.client_response
        return Response(
            status=client_response.status,
            url=self.request.target.text,
            headers=client_response.headers,
            body=self.body,
            elapsed=call.elapsed,
            attempts=call.attempts,
            history=tuple(call.history),
        )

    def acquire_permission(self) -> None:
        """Ask the circuits whether the request may be sent; raise CallNotPermitted otherwise."""
        assert self._circuits
        self._probes = self._circuits.acquire_permission(self._caller)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.end(error)

    def end(self, error: BaseException | None = None) -> None:
        """Record the outcome and release slot and connection; do nothing the second time.

        After an error the connection is closed, because more of the response may still arrive on it.
        """
        origin_circuits, self._circuits = self._circuits, None
        if origin_circuits is None:
            return
        call, client_response = self._call, getattr(self, "client_response", None)
        call.elapsed += monotonic() - self._started_at
        if client_response is not None and error is None:
            has_failed: bool | None = client_response.status in FAILURE_STATUSES
        else:
            has_failed = self._is_server_failure(error)
        origin_circuits.record(self._caller, self._probes, has_failed)
        if self._has_slot:
            slots.release(self.request.target.origin)
        if self._span is not None:
            telemetry.end_span(self._span, client_response.status if client_response else 0, error)
        if client_response is not None:
            if error is not None:
                client_response.close()
            else:
                client_response.release()

    def _is_server_failure(self, error: BaseException | None) -> bool | None:
        """Return whether an error means that the origin has failed, or None if it means nothing about the origin."""
        if isinstance(error, asyncio.CancelledError):
            # A timeout counts if the call was waiting for the server, and for long enough.
            waited = monotonic() - self._started_at
            is_timeout = self._call.seconds_left <= 0 and self._call.stage != "caller"
            return True if is_timeout and waited >= self._min_failure_seconds else None
        if isinstance(error, aiohttp.ClientConnectorError):
            is_forbidden = isinstance(error.os_error, ForbiddenAddress)
            return None if is_forbidden or error.os_error.errno in LOCAL_ERRORS else True
        if isinstance(error, OutboundError):  # an unusable response, but a response
            return self.client_response.status in FAILURE_STATUSES
        return True if isinstance(error, aiohttp.ClientError) else None


async def send_request(call: Call, request: Request, *, read_body: bool) -> Exchange:
    """Send one request and return its exchange, ended if it is a redirect or if ``read_body``.

    Raises OutboundError.
    """
    origin, per_host, caller = request.target.origin, settings.OUTBOUND_PER_HOST, caller_key()
    attempt = running_attempt()
    # The app's own senders take no slots of the project's calls. Their claims limit what runs for each user, and the
    # receivers of one must not delay those of another at the same host.
    sender_key = attempt.sender_key if attempt else None
    is_sender = sender_key is not None
    if is_sender:
        caller = sender_key
    try:
        is_guarded = call.guard and not request.target.check()
        origin_circuits = circuits.get(origin)
        origin_circuits.check(caller)
        call.stage = "slot"
        for gate in read_gates():
            gate.refuse_hopeless(call, request.target)
        half = call.seconds_left / 2
        if is_sender or slots.try_acquire(origin, per_host):
            pass
        elif attempt and not attempt.is_over:
            # A task may start hundreds of calls at once. The end of its attempt ends the wait.
            with call.stopped_deadline(), attempt.ending_wait():
                await slots.acquire(origin, per_host, attempt)
        elif caller_of_gather := gathering.get():
            with call.stopped_deadline():
                await slots.acquire(origin, per_host, caller_of_gather)
        else:
            await slots.acquire(origin, per_host, None, half)
    except Forbidden as exc:
        raise call.refused_error(exc) from exc
    except CallNotPermitted as exc:
        raise call.circuit_open_error(exc.seconds) from exc
    if read_gates():
        await _pass_gates(call, request, has_slot=not is_sender)
    exchange = Exchange(call, request, origin_circuits, caller, half, has_slot=not is_sender)
    try:
        with ExitStack() as stack:
            stack.enter_context(exchange)
            exchange.acquire_permission()
            await exchange.send(is_guarded=is_guarded, read_body=read_body)
            if not (read_body or exchange.is_redirect):
                stack.pop_all()  # its caller ends it
    except CallNotPermitted as exc:
        raise call.circuit_open_error(exc.seconds) from exc
    except aiohttp.ClientError as exc:
        # The text of a ClientResponseError has the whole URL. Its cause says what is wrong with the response.
        cause = exc.__cause__ if isinstance(exc, aiohttp.ClientResponseError) else exc
        raise call.translate_error(exc) from cause
    return exchange


async def _pass_gates(call: Call, request: Request, *, has_slot: bool) -> None:
    with ExitStack() as on_error:
        if has_slot:
            on_error.callback(slots.release, request.target.origin)
        for gate in read_gates():
            await gate.wait(call, request.target)
        on_error.pop_all()
