"""Guarded HTTP calls to other people's APIs.

>>> from notifications import outbound
>>> response = await outbound.get("https://api.example.com/prices", deadline=5.0)
>>> prices = response.raise_for_status().json()

Every call has one deadline and a size cap, is tried again where that is safe, leaves alone a server that fails, and,
unless told otherwise, reaches the public internet only.
All errors are kinds of ``OutboundError`` and their text can be shown to a person.
"""

from notifications.traces import tracing

from .client import delete, get, head, patch, post, put, request, stream
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
from .overview import state
from .response import Response
from .streaming import Stream

__all__ = [
    "TEMPORARY",
    "BadResponse",
    "BadStatus",
    "CircuitOpen",
    "OutboundError",
    "Refused",
    "Response",
    "Stream",
    "TimedOut",
    "TooLarge",
    "Unavailable",
    "Unreachable",
    "delete",
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
