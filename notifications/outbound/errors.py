"""The errors of outbound calls.

Their texts can be shown to users, in the language that is active when the call fails: they name the requested host,
and never an address that it resolves to or where a redirect led.
"""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from notifications.exceptions import NotificationsError


class OutboundError(NotificationsError):
    """The call returned no usable response. The owner of a job that fails with it is shown its text."""

    tell_owner = True

    message = _("The call did not succeed.")

    #: Seconds to wait, from the server's Retry-After or until an open circuit lets a call through; None if unknown.
    #: A job whose policy has the error in ``retry_on`` is not retried before.
    retry_after: float | None = None

    #: Private: whether the call itself may send the same request again.
    is_transient = False

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message or str(self.message))
        self.retry_after = retry_after


class Refused(OutboundError):
    """The guard refused the URL, its address or a redirect; nothing was sent there."""

    message = _("The URL may not be called.")


class TimedOut(OutboundError):
    """The call, including waiting for a slot, redirects and retries, was not complete at its deadline."""

    message = _("There was no complete response in time.")


class Unreachable(OutboundError):
    """No response: the name was not found, the connection or the certificate failed, or it was closed too early."""

    message = _("The server could not be reached.")


class TooLarge(OutboundError):
    """The body, as sent or decompressed, is larger than ``max_bytes``."""

    message = _("The response is too large.")


class CircuitOpen(OutboundError):
    """The server has failed so often that it is not called for ``retry_after`` seconds; nothing was sent."""

    message = _("The server has failed too often and is not called for a while.")


class BadStatus(OutboundError):
    """``Response.raise_for_status()`` found a status of 400 or more.

    ``status`` is the status, ``retry_after`` the seconds that the response's Retry-After gives, or None.
    """

    message = _("The server responded with an error.")

    def __init__(self, message: str = "", *, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.status = status


class Unavailable(BadStatus):
    """The status is 429, 502, 503 or 504: the same call may succeed later."""

    message = _("The server cannot respond now.")


class BadResponse(OutboundError):
    """The response is unusable: not HTTP, incomplete, badly compressed, not JSON, or too many redirects."""

    message = _("The server's response cannot be read.")


#: Errors that may go away by themselves: ``@policy(retry_on=outbound.TEMPORARY)``.
TEMPORARY = (TimedOut, Unreachable, CircuitOpen, Unavailable)
