"""What can go wrong with an outbound call.

The text of every error is meant for a person.
It names the host that was asked for, and never an address that a name stands for or where a redirect led.
"""

from __future__ import annotations

from notifications.exceptions import NotificationsError


class OutboundError(NotificationsError):
    """The call did not give a usable answer. A job that fails with it tells its owner so."""

    tell_owner = True

    message = "The call did not succeed."

    #: Seconds that the other side, or an open circuit, asks to wait; None if nobody said. A job whose policy has
    #: the error in ``retry_on`` is not begun again before.
    retry_after: float | None = None

    #: Private: whether the same request may succeed at once.
    may_pass = False

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message or self.message)
        self.retry_after = retry_after


class Refused(OutboundError):
    """The guard did not let the call out; nothing was sent to the place that was refused."""

    message = "The URL may not be called."


class TimedOut(OutboundError):
    """The whole call, with waiting for a free slot, redirects and retries, was not over at its deadline."""

    message = "There was no complete answer in time."


class Unreachable(OutboundError):
    """No answer came: no such name, no connection, no valid certificate, or closed before a word was said."""

    message = "The server could not be reached."


class TooLarge(OutboundError):
    """The body, as sent or as unpacked, is larger than ``max_bytes``."""

    message = "The answer is too large."


class CircuitOpen(OutboundError):
    """The server failed so often lately that it is left alone for ``retry_after`` seconds; nothing was sent."""

    message = "The server has failed too often and is left alone for a while."


class BadStatus(OutboundError):
    """``Response.raise_for_status()`` met a status of 400 or more.

    ``status`` is that number, ``retry_after`` what the answer's Retry-After says, in seconds.
    """

    message = "The server answered with an error."

    def __init__(self, message: str = "", *, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.status = status


class Unavailable(BadStatus):
    """The status is 429, 502, 503 or 504: the same call may succeed later."""

    message = "The server cannot answer now."


class BadResponse(OutboundError):
    """An answer came that cannot be used: not HTTP, broken off, badly packed, endless redirects, not JSON."""

    message = "The server's answer cannot be read."


#: What may pass by itself: ``@policy(retry_on=outbound.TEMPORARY)``.
TEMPORARY = (TimedOut, Unreachable, CircuitOpen, Unavailable)
