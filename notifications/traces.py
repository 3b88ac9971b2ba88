"""The trace that a request came with, to be passed on (W3C Trace Context, https://www.w3.org/TR/trace-context/).

It goes with the jobs that are enqueued in a request, and from these with their outbound calls and their own jobs.
Outbound calls carry ``traceparent`` alone: ``tracestate`` may hold whatever the visitor or their vendors wrote.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

Pairs = tuple[tuple[str, str], ...]

# Only a later version may have more behind the four fields.
_PARENT = re.compile(
    r"(?!ff|00.{53}.)[0-9a-f]{2}-((?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(-[\x21-\x7e]{0,200})?"
)
_STATE = re.compile(r"[\x20-\x7e]{1,512}")

_carried: ContextVar[Pairs] = ContextVar("notifications_trace", default=())


@contextmanager
def tracing(headers: Mapping[str, str]) -> Iterator[None]:
    """Pass on the trace of a request: ``with tracing(request.headers): ...``.

    Outbound calls inside send its ``traceparent``, unless it is malformed; jobs enqueued inside also keep its
    ``tracestate``. With ``notifications.asgi.get_asgi_application`` every request does so by itself.
    """
    token = _carried.set(_pairs(headers.get("traceparent", ""), headers.get("tracestate", "")))
    try:
        yield
    finally:
        _carried.reset(token)


def note(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Carry the trace in the headers of an ASGI scope from here on, in this context."""
    found = [(name, value) for name, value in headers if name in (b"traceparent", b"tracestate")]
    parents = [value.decode("latin-1") for name, value in found if name == b"traceparent"]
    states = [value.decode("latin-1") for name, value in found if name == b"tracestate"]
    _carried.set(_pairs(parents[0] if len(parents) == 1 else "", ",".join(states)))


def carried() -> Pairs:
    """Return the headers that jobs keep."""
    return _carried.get()


def outgoing() -> Pairs:
    """Return the headers that outbound calls send."""
    return _carried.get()[:1]


def as_text() -> str:
    """Return what is stored with a job: ``traceparent``, and below it ``tracestate`` if there is one; or ``""``.

    With OpenTelemetry it is that of the span in which the job is asked for.
    """
    return "\n".join(value for name, value in (_of_span() or carried()))


def carry(text: str) -> None:
    """Carry what ``as_text`` returned from here on, in this context; OpenTelemetry's spans are below it then."""
    parent, _, state = text.partition("\n")
    pairs = _pairs(parent, state)
    _carried.set(pairs)
    if pairs and "opentelemetry.trace" in sys.modules:
        from opentelemetry import context, propagate

        context.attach(propagate.extract(dict(pairs)))


def _of_span() -> Pairs:
    if "opentelemetry.trace" not in sys.modules:  # whoever uses it has loaded it
        return ()
    from opentelemetry import propagate, trace

    if not trace.get_current_span().get_span_context().is_valid:
        return ()
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return _pairs(carrier.get("traceparent", ""), carrier.get("tracestate", ""))


def _pairs(parent: str, state: str) -> Pairs:
    match = _PARENT.fullmatch(parent)
    if match is None:
        return ()
    # A later version is passed on as the one that is understood here, without what it may have more.
    trace = ("traceparent", f"00-{match[1]}")
    return (trace, ("tracestate", state)) if _STATE.fullmatch(state) else (trace,)
