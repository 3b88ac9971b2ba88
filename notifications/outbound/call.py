"""What one call knows of itself on its way, and how it tells what went wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp

from .errors import BadResponse, Refused, Unreachable
from .guard import NOT_PUBLIC, Forbidden, ForbiddenAddress
from .response import Response

logger = logging.getLogger("notifications.outbound")


@dataclass(kw_only=True)
class Call:
    """One call with its redirects.

    ``subject`` is the host and port that were asked for, the only place that errors name.
    ``stage`` is what is being waited for: ``slot``, ``connection`` or ``body``.
    """

    max_bytes: int
    guard: bool
    subject: str = "The URL"
    stage: str = "slot"
    elapsed: float = 0.0
    history: list[Response] = field(default_factory=list)

    @property
    def place(self) -> str:
        """The server that is spoken to now, without telling where a redirect led."""
        return f"the server that {self.subject} redirected to" if self.history else self.subject

    def late(self, deadline: float) -> str:
        """Return why the deadline is over."""
        if self.stage == "slot":
            return f"{self.subject} was not called within {deadline:g} s: too many other calls came first."
        return f"There was no complete answer of {self.subject} within {deadline:g} s."

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Turn what the guard says into Refused."""
        try:
            yield
        except Forbidden as exc:
            if self.history:
                raise Refused(f"{self.subject} redirects to a URL that was not called: {exc}.") from exc
            raise Refused(f"{self.subject} was not called: {exc}.") from exc

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Turn aiohttp's errors into ours, or into Forbidden where the guard stopped a connection."""
        place = self.place[0].upper() + self.place[1:] if self.history else self.place
        try:
            yield
        except aiohttp.ClientConnectorCertificateError as exc:
            raise Unreachable(f"{place} does not show a valid certificate.") from exc
        except aiohttp.ClientConnectorError as exc:
            if isinstance(exc.os_error, ForbiddenAddress):
                logger.info("Refused a call to %s: the address is %s.", self.place, exc.os_error.why)
                raise Forbidden(NOT_PUBLIC) from exc
            if isinstance(exc, aiohttp.ClientConnectorDNSError):
                raise Unreachable(f"{place} could not be found.") from exc
            raise Unreachable(f"{place} could not be reached.") from exc
        except aiohttp.ClientError as exc:
            if self.stage == "body":
                raise BadResponse(f"The answer of {self.place} broke off in the middle.") from exc
            if isinstance(exc, aiohttp.ClientResponseError):
                raise BadResponse(f"The answer of {self.place} is not HTTP.") from exc
            raise Unreachable(f"{place} closed the connection without an answer.") from exc
