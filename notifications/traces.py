"""The trace that a request came with, to be passed on (W3C Trace Context, https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

Pairs = tuple[tuple[str, str], ...]

_PARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x7e]{0,200})?"
)
_STATE = re.compile(r"[\x20-\x7e]{1,512}")

_carried: ContextVar[Pairs] = ContextVar("notifications_trace", default=())


@contextmanager
def tracing(headers: Mapping[str, str]) -> Iterator[None]:
    """Pass on the trace of a request: ``with tracing(request.headers): ...``.

    What is called inside sends its ``traceparent`` and ``tracestate``, as they came; malformed ones are left out.
    With ``notifications.asgi.get_asgi_application`` every request does so by itself.
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
    """Return the headers to pass on."""
    return _carried.get()


def _pairs(parent: str, state: str) -> Pairs:
    if not _PARENT.fullmatch(parent):
        return ()
    if not _STATE.fullmatch(state):
        return (("traceparent", parent),)
    return (("traceparent", parent), ("tracestate", state))
