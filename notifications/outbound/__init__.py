"""Guarded HTTP calls to other people's APIs.

>>> from notifications import outbound
>>> response = await outbound.get("https://api.example.com/prices", deadline=5.0)
>>> prices = response.raise_for_status().json()

Every call has one deadline and a size cap and, unless told otherwise, reaches the public internet only.
All errors are kinds of ``OutboundError`` and their text can be shown to a person.
"""

from .client import delete, get, head, patch, post, put, request
from .errors import BadResponse, BadStatus, OutboundError, Refused, TimedOut, TooLarge, Unreachable
from .response import Response

__all__ = [
    "BadResponse",
    "BadStatus",
    "OutboundError",
    "Refused",
    "Response",
    "TimedOut",
    "TooLarge",
    "Unreachable",
    "delete",
    "get",
    "head",
    "patch",
    "post",
    "put",
    "request",
]
