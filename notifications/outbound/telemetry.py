"""Spans for OpenTelemetry (https://opentelemetry.io/docs/specs/semconv/http/http-spans/), where it is installed.

Each request that is sent, also by a redirect or a retry, is a client span, and is the parent of what the other side
does. Query strings are left out. The other side gets the span's ids in ``traceparent`` and nothing else of the trace.
Without OpenTelemetry, or a tracer provider, nothing is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multidict import CIMultiDict, CIMultiDictProxy

from .redirects import Ask

if TYPE_CHECKING:
    from .call import Call

try:
    from opentelemetry import trace  # type: ignore[attr-defined,unused-ignore]
except ImportError:
    trace = None  # type: ignore[assignment]


def is_active() -> bool:
    """Whether OpenTelemetry is installed and set up."""
    return trace is not None and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def begin(call: Call, ask: Ask) -> tuple[Any, CIMultiDictProxy[str]]:
    """Return a span and the headers to send with it."""
    url = ask.target.url
    span = (
        trace.get_tracer_provider()
        .get_tracer("notifications.outbound")
        .start_span(
            ask.method,
            kind=trace.SpanKind.CLIENT,
            attributes={
                "http.request.method": ask.method,
                "server.address": ask.target.host,
                "server.port": ask.target.port,
                "url.scheme": url.scheme,
                "url.full": str(url.with_query(None)),
                **({"http.request.resend_count": call.attempts - 1} if call.attempts > 1 else {}),
            },
        )
    )
    headers = CIMultiDict(ask.headers)
    # By no propagator: it would also send the tracestate and the baggage of the visitor's request.
    ids = span.get_span_context()
    if ids.is_valid:  # not with OTEL_SDK_DISABLED, where all ids are zeros
        headers["traceparent"] = (
            f"00-{trace.format_trace_id(ids.trace_id)}-{trace.format_span_id(ids.span_id)}-{ids.trace_flags:02x}"
        )
    return span, CIMultiDictProxy(headers)


def end(span: Any, status: int, error: BaseException | None) -> None:
    """End the span with the status of the answer, or with what went wrong."""
    if status:
        span.set_attribute("http.response.status_code", status)
    kind = type(error).__name__ if error is not None else str(status) if status >= 400 else ""
    if kind:
        span.set_attribute("error.type", kind)
        span.set_status(trace.StatusCode.ERROR)
    span.end()
