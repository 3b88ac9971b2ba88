"""The response to an outbound call."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Self

from django.utils.translation import gettext
from multidict import CIMultiDictProxy
from yarl import URL

from .errors import BadResponse, BadStatus, Unavailable

#: Statuses after which the same request may succeed.
RETRY_STATUSES = frozenset({429, 502, 503, 504})


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds from now that Retry-After gives as a number or a date; None without a valid one."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value, re.ASCII):
        return float(value)
    try:
        moment = parsedate_to_datetime(value[:64])
    except (ValueError, IndexError, OverflowError):
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


@dataclass(frozen=True, kw_only=True, eq=False)
class Response:
    """A complete response.

    ``status``: the HTTP status, an int.
    ``url``: the URL of the response, after redirects, without a fragment.
    ``headers``: a read-only, case-insensitive mapping; ``getall()`` returns repeated ones.
    ``body``: the decompressed bytes.
    ``elapsed``: seconds from sending to the last byte, with redirects and failed attempts, without waiting.
    ``attempts``: 1 plus the number of retries.
    ``history``: the redirects, oldest first, each a Response without a body.
    """

    status: int
    url: str
    headers: CIMultiDictProxy[str] = field(repr=False)
    body: bytes = field(repr=False)
    elapsed: float
    attempts: int = 1
    history: tuple[Response, ...] = field(default=(), repr=False)

    def json(self) -> Any:
        """Return the parsed JSON body (RFC 8259); raise BadResponse for other content, including NaN."""
        try:
            return json.loads(self.body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as exc:
            text = gettext("The response from {server} is not JSON.")
            raise BadResponse(text.format(server=self._host)) from exc

    def text(self) -> str:
        """Return the body as text, in the charset of the response or else UTF-8; invalid bytes become U+FFFD."""
        try:
            return self.body.decode(self._charset, errors="replace")
        except (LookupError, ValueError):
            return self.body.decode("utf-8", errors="replace")

    def raise_for_status(self) -> Self:
        """Return self, or raise BadStatus if the status is 400 or more, Unavailable if it is 429, 502, 503 or 504."""
        if self.status >= 400:
            error = Unavailable if self.status in RETRY_STATUSES else BadStatus
            text = gettext("{host} answered with status {status}.")
            message = text.format(host=self._host, status=self._status_text)
            raise error(message, status=self.status, retry_after=parse_retry_after(self.headers))
        return self

    @property
    def _host(self) -> str:
        first = self.history[0] if self.history else self
        return URL(first.url).raw_authority

    @property
    def _status_text(self) -> str:
        try:
            return f"{self.status} ({HTTPStatus(self.status).phrase})"
        except ValueError:
            return str(self.status)

    @property
    def _charset(self) -> str:
        for parameter in self.headers.get("Content-Type", "").split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                charset = value.strip().strip("\"'").lower()
                # Python also has codecs for host names, which are slow on long input and are no charset.
                return "utf-8" if charset.startswith(("idna", "puny")) else charset
        return "utf-8"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
