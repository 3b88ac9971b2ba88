"""Send the requests of a call one after the other, with redirects and retries, until one has the final response."""

from __future__ import annotations

import asyncio

from django.utils.translation import gettext

from . import events, redirects, retries
from .call import Call
from .errors import BadResponse, OutboundError
from .exchange import Exchange, send_request
from .guard import Forbidden
from .request import Request


async def send_with_redirects(call: Call, request: Request, *, read_body: bool) -> Exchange:
    """Return the exchange with the final response: ended if ``read_body``, else with its body unread."""
    while True:
        exchange = await _send_with_retries(call, request, read_body=read_body)
        if not exchange.is_redirect:
            return exchange
        exchange.end()
        call.history.append(exchange.to_response())
        if len(call.history) > redirects.MAX_REDIRECTS:
            text = gettext("{host} redirects more than {count} times.")
            raise BadResponse(text.format(host=call.host, count=redirects.MAX_REDIRECTS))
        client_response = exchange.client_response
        try:
            request = redirects.follow(request, client_response.status, client_response.headers["Location"])
        except Forbidden as exc:
            raise call.refused_error(exc) from exc


async def _send_with_retries(call: Call, request: Request, *, read_body: bool) -> Exchange:
    """Send one request until it succeeds. All requests of a call share its number of retries."""
    while True:
        try:
            exchange = await send_request(call, request, read_body=read_body)
        except OutboundError as exc:
            delay = _retry_delay(call, request, None) if exc.is_transient else None
            if delay is None:
                raise
            events.report_retry(call, 0, exc, delay)
        else:
            if exchange.client_response.status not in retries.RETRY_STATUSES:
                return exchange
            delay = _retry_delay(call, request, retries.parse_retry_after(exchange.client_response.headers))
            if delay is None:
                return exchange
            exchange.end()
            events.report_retry(call, exchange.client_response.status, None, delay)
        call.stage = "delay"
        await asyncio.sleep(delay)
        call.attempts += 1


def _retry_delay(call: Call, request: Request, retry_after: float | None) -> float | None:
    if call.attempts > call.retries or not request.is_idempotent:
        return None
    return retries.retry_delay(call.attempts, retry_after, call.seconds_left)
