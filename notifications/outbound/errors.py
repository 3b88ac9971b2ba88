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

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.message)


class Refused(OutboundError):
    """The guard did not let the call out; nothing was sent to the place that was refused."""

    message = "The URL may not be called."


class TimedOut(OutboundError):
    """The whole call, with waiting for a free slot and with redirects, was not over at its deadline."""

    message = "There was no complete answer in time."


class Unreachable(OutboundError):
    """No answer came: no such name, no connection, no valid certificate, or closed before a word was said."""

    message = "The server could not be reached."


class TooLarge(OutboundError):
    """The body, as sent or as unpacked, is larger than ``max_bytes``."""

    message = "The answer is too large."


class BadStatus(OutboundError):
    """``Response.raise_for_status()`` met a status of 400 or more.

    ``status`` is that number.
    """

    message = "The server answered with an error."

    def __init__(self, message: str = "", *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class BadResponse(OutboundError):
    """An answer came that cannot be used: not HTTP, broken off, badly packed, endless redirects, not JSON."""

    message = "The server's answer cannot be read."
