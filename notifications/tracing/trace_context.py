"""Propagation of trace headers (W3C Trace Context, https://www.w3.org/TR/trace-context/).

The trace of a request is stored with the jobs that it enqueues, and from there sent with their outbound calls and
stored with their own jobs. Outbound calls send ``traceparent`` only: ``tracestate`` may hold anything the client wrote.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

#: ``traceparent`` and, if there is one, ``tracestate``, as pairs of name and value.
TraceHeaders = tuple[tuple[str, str], ...]

# Versions after 00 may add fields at the end.
_PARENT = re.compile(
    r"(?!ff|00.{53}.)[0-9a-f]{2}-((?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(-[\x21-\x7e]{0,200})?"
)
_STATE = re.compile(r"[\x20-\x7e]{1,512}")

_current: ContextVar[TraceHeaders] = ContextVar("notifications_trace", default=())


@contextmanager
def tracing(headers: Mapping[str, str]) -> Iterator[None]:
    """Propagate the trace of a request: ``with tracing(request.headers): ...``.

    Outbound calls inside the block send its ``traceparent``. Jobs that are enqueued inside store it with its
    ``tracestate``. A malformed trace is ignored. With ``notifications.asgi.get_asgi_application`` each request does
    this by itself.
    """
    token = _current.set(_valid_headers(headers.get("traceparent", ""), headers.get("tracestate", "")))
    try:
        yield
    finally:
        _current.reset(token)


def set_from_headers(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Propagate the trace in the headers of an ASGI scope from now on, in this context."""
    found = [(name, value) for name, value in headers if name in (b"traceparent", b"tracestate")]
    parents = [value.decode("latin-1") for name, value in found if name == b"traceparent"]
    states = [value.decode("latin-1") for name, value in found if name == b"tracestate"]
    _current.set(_valid_headers(parents[0] if len(parents) == 1 else "", ",".join(states)))


def current_headers() -> TraceHeaders:
    """Return the headers of the current trace, as jobs store them."""
    return _current.get()


def outbound_headers() -> TraceHeaders:
    """Return the headers that outbound calls send: ``traceparent``, if there is a trace."""
    return _current.get()[:1]


def serialize_trace() -> str:
    """Return the trace as a job stores it: ``traceparent``, and in a second line ``tracestate``; or ``""``.

    With OpenTelemetry it is that of the current span.
    """
    return "\n".join(value for name, value in (_span_headers() or current_headers()))


def headers_of(text: str) -> TraceHeaders:
    parent, _, state = text.partition("\n")
    return _valid_headers(parent, state)


def restore(text: str) -> None:
    """Propagate a trace that ``serialize`` returned from now on, in this context.

    With OpenTelemetry it is the parent of new spans.
    """
    headers = headers_of(text) if text else ()
    _current.set(headers)
    if headers and "opentelemetry.trace" in sys.modules:
        from opentelemetry import context, propagate

        context.attach(propagate.extract(dict(headers)))


def _span_headers() -> TraceHeaders:
    if "opentelemetry.trace" not in sys.modules:  # A program that uses it has imported it.
        return ()
    from opentelemetry import propagate, trace

    if not trace.get_current_span().get_span_context().is_valid:
        return ()
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return _valid_headers(carrier.get("traceparent", ""), carrier.get("tracestate", ""))


def _valid_headers(parent: str, state: str) -> TraceHeaders:
    match = _PARENT.fullmatch(parent)
    if match is None:
        return ()
    # A later version is sent on as version 00, without the fields that it may have added.
    trace = ("traceparent", f"00-{match[1]}")
    return (trace, ("tracestate", state)) if _STATE.fullmatch(state) else (trace,)
