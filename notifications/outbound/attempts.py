"""Send the requests of a call one after the other, with redirects and retries, until one has the final response."""

from __future__ import annotations

import asyncio
import random

from django.utils.translation import gettext

from .call import Call
from .errors import BadResponse, OutboundError
from .exchange import Exchange, send_request
from .guard import Forbidden
from .request import Request, follow
from .response import RETRY_STATUSES, parse_retry_after
from .telemetry import report_retry

MAX_REDIRECTS = 5
#: The maximum delay before the first retry, which doubles with each retry, and before any retry.
INITIAL_DELAY_SECONDS, MAX_DELAY_SECONDS = 0.5, 10.0


def retry_delay(retry: int, retry_after: float | None, seconds_left: float) -> float | None:
    """Return the seconds to wait before a retry (1, 2, ...), or None if the deadline leaves no time for it.

    ``retry_after``: the seconds that the server asks for, which are the minimum.
    ``seconds_left``: seconds until the deadline. At most half of what remains after ``retry_after`` is added.

    The delay has full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), also on top
    of a Retry-After, so that clients that received the same value do not return at the same moment.
    """
    minimum = retry_after or 0.0
    if seconds_left <= minimum:
        return None
    return minimum + random.uniform(
        0, min(MAX_DELAY_SECONDS, INITIAL_DELAY_SECONDS * 2 ** (retry - 1), (seconds_left - minimum) / 2)
    )


async def send_with_redirects(call: Call, request: Request, *, read_body: bool) -> Exchange:
    """Return the exchange with the final response: ended if ``read_body``, else with its body unread."""
    while True:
        exchange = await _send_with_retries(call, request, read_body=read_body)
        if not exchange.is_redirect:
            return exchange
        exchange.end()
        call.history.append(exchange.to_response())
        if len(call.history) > MAX_REDIRECTS:
            text = gettext("{host} redirects more than {count} times.")
            raise BadResponse(text.format(host=call.host, count=MAX_REDIRECTS))
        client_response = exchange.client_response
        try:
            request = follow(request, client_response.status, client_response.headers["Location"])
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
            report_retry(call, 0, exc, delay)
        else:
            if exchange.client_response.status not in RETRY_STATUSES:
                return exchange
            delay = _retry_delay(call, request, parse_retry_after(exchange.client_response.headers))
            if delay is None:
                return exchange
            exchange.end()
            report_retry(call, exchange.client_response.status, None, delay)
        call.stage = "delay"
        await asyncio.sleep(delay)
        call.attempts += 1


def _retry_delay(call: Call, request: Request, retry_after: float | None) -> float | None:
    if call.attempts > call.retries or not request.is_idempotent:
        return None
    return retry_delay(call.attempts, retry_after, call.seconds_left)
