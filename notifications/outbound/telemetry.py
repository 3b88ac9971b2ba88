"""Report calls: by signals, log lines, and client spans for OpenTelemetry.

Signals and log lines have host, status, duration and size; no path, query, header or body.

Each request that is sent, also by a redirect or a retry, is a span, and the parent of the server's spans
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/). Of the URL it has scheme, host and port only: paths of
webhooks and push services are secrets. The server receives the span's ids in ``traceparent`` and nothing else of the
trace. Without OpenTelemetry, or without a tracer provider, there are no spans. A program that uses it has imported it;
this module imports nothing of it before.
"""

from __future__ import annotations

import logging
import sys
from time import monotonic
from types import TracebackType
from typing import Any

from django.dispatch import Signal
from multidict import CIMultiDict, CIMultiDictProxy

from notifications.signals import outbound_ended, outbound_retrying, outbound_started

from .call import Call
from .request import Request

logger = logging.getLogger("notifications.outbound")


class reported:
    """Context manager that reports the start and the end of a call, with its error."""

    __slots__ = ("_call", "_started_at")

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> None:
        call = self._call
        self._started_at = monotonic()
        if outbound_started.receivers:
            _send(outbound_started, call)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("Outbound call started: call %d, %s %s", call.id, call.method, call.host)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not outbound_ended.receivers and not logger.isEnabledFor(logging.DEBUG):
            return
        call, duration = self._call, monotonic() - self._started_at
        _send(outbound_ended, call, status=call.status, error=error, duration=duration, bytes=call.body_bytes)
        logger.debug(
            "Outbound call ended: call %d, %s %s, %s, %.3f s, %d bytes, attempt %d",
            call.id,
            call.method,
            call.host,
            type(error).__name__ if error is not None else call.status,
            duration,
            call.body_bytes,
            call.attempts,
        )


def report_retry(call: Call, status: int, error: BaseException | None, delay: float) -> None:
    """Report that an attempt has failed and that another one follows after ``delay`` seconds."""
    if outbound_retrying.receivers:
        _send(outbound_retrying, call, status=status, error=error, pause=delay)
    logger.info(
        "Retrying outbound call: call %d, %s %s, attempt %d ended with %s, next in %.2f s",
        call.id,
        call.method,
        call.host,
        call.attempts,
        status or type(error).__name__,
        delay,
    )


def _send(signal: Signal, call: Call, **arguments: Any) -> None:
    try:
        signal.send_robust(
            sender=None, id=call.id, method=call.method, host=call.host, attempt=call.attempts, **arguments
        )
    except RuntimeError:  # asyncio's, for a receiver that is a coroutine function
        logger.exception("Receivers of the signals of outbound calls must be synchronous functions")


#: What stands for path and query, as the conventions have it for parts that are left out.
HIDDEN_PATH = "REDACTED"


def is_active() -> bool:
    """Return whether OpenTelemetry is installed and set up."""
    if "opentelemetry.trace" not in sys.modules:
        return False
    from opentelemetry import trace  # type: ignore[attr-defined,unused-ignore]  # waits while a thread imports it

    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def start_span(call: Call, request: Request) -> tuple[Any, CIMultiDictProxy[str]]:
    """Return a new span and the request's headers with its ``traceparent``."""
    from opentelemetry import trace  # type: ignore[attr-defined,unused-ignore]

    url = request.target.url
    span = (
        trace.get_tracer_provider()
        .get_tracer("notifications.outbound")
        .start_span(
            request.method,
            kind=trace.SpanKind.CLIENT,
            attributes={
                "http.request.method": request.method,
                "server.address": request.target.host,
                "server.port": request.target.port,
                "url.scheme": url.scheme,
                "url.full": str(url.origin() / HIDDEN_PATH),
                **({"http.request.resend_count": call.attempts - 1} if call.attempts > 1 else {}),
            },
        )
    )
    headers = CIMultiDict(request.headers)
    # Not with a propagator, which would also send the tracestate and the baggage of the incoming request.
    ids = span.get_span_context()
    if ids.is_valid:  # With OTEL_SDK_DISABLED all ids are zeros.
        headers["traceparent"] = (
            f"00-{trace.format_trace_id(ids.trace_id)}-{trace.format_span_id(ids.span_id)}-{ids.trace_flags:02x}"
        )
    return span, CIMultiDictProxy(headers)


def end_span(span: Any, status: int, error: BaseException | None) -> None:
    """End the span with the status of the response (0: none) or with the error."""
    if status:
        span.set_attribute("http.response.status_code", status)
    error_type = type(error).__name__ if error is not None else str(status) if status >= 400 else ""
    if error_type:
        from opentelemetry import trace  # type: ignore[attr-defined,unused-ignore]

        span.set_attribute("error.type", error_type)
        span.set_status(trace.StatusCode.ERROR)
    span.end()
