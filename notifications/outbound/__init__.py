"""A guarded HTTP client for calls to outside APIs.

>>> from notifications import outbound
>>> response = await outbound.get("https://api.example.com/prices", deadline=5.0)
>>> prices = response.raise_for_status().json()

Every call has one deadline and a limit on the size of the body, is retried where that is safe, fails fast while its
server is failing, and reaches only the public internet unless ``guard=False`` or a setting opens more.
All errors are subclasses of ``OutboundError``. Their text can be shown to users.
"""

# Modules:
#
# client, gathering                       the functions of this package
# call, attempts, exchange                a call with its deadline, its attempts, and one request of it
# guard, addresses, resolver, connector   what may be called: URLs, addresses, names, sockets
# circuits, slots, gates, pools           circuit breakers, limits of calls, those of extensions, connections
# request, body, decompression, response  what is sent and received
# errors, telemetry, overview             errors, spans, the state of this process's calls

from notifications.tracing.trace_context import tracing

from .client import ResponseStream, delete, get, head, patch, post, put, request, stream
from .errors import (
    TEMPORARY,
    BadResponse,
    BadStatus,
    CircuitOpen,
    OutboundError,
    Refused,
    TimedOut,
    TooLarge,
    Unavailable,
    Unreachable,
)
from .gates import Gate
from .gathering import gather
from .guard import Forbidden as Forbidden
from .guard import parse_target as parse_target
from .overview import state
from .response import Response

__all__ = [
    "TEMPORARY",
    "BadResponse",
    "BadStatus",
    "CircuitOpen",
    "Gate",
    "OutboundError",
    "Refused",
    "Response",
    "ResponseStream",
    "TimedOut",
    "TooLarge",
    "Unavailable",
    "Unreachable",
    "delete",
    "gather",
    "get",
    "head",
    "patch",
    "post",
    "put",
    "request",
    "state",
    "stream",
    "tracing",
]
