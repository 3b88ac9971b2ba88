"""The answer to an outbound call."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self

from multidict import CIMultiDictProxy
from yarl import URL

from .errors import BadResponse, BadStatus, Unavailable
from .retries import STATUSES, retry_after


@dataclass(frozen=True, kw_only=True, eq=False)
class Response:
    """An answer that arrived whole.

    ``status``: the HTTP status, an int.
    ``url``: where the answer came from, after redirects, without a fragment.
    ``headers``: a read-only mapping that ignores case; ``getall()`` gives repeated ones.
    ``body``: the bytes, unpacked if they were sent packed.
    ``elapsed``: seconds between sending and the last byte, with redirects and failed attempts, without waiting.
    ``attempts``: 1, and 1 for each retry.
    ``history``: the redirects on the way, oldest first, each a Response without a body.
    """

    status: int
    url: str
    headers: CIMultiDictProxy[str] = field(repr=False)
    body: bytes = field(repr=False)
    elapsed: float
    attempts: int = 1
    history: tuple[Response, ...] = field(default=(), repr=False)

    def json(self) -> Any:
        """Return the body as JSON (RFC 8259); raise BadResponse if it is something else, NaN included."""
        try:
            return json.loads(self.body, parse_constant=_no_constant)
        except (ValueError, RecursionError) as exc:
            raise BadResponse(f"The answer of {self._host} is not JSON.") from exc

    def text(self) -> str:
        """Return the body as text, in the charset the server names, else UTF-8; bad bytes become U+FFFD."""
        try:
            return self.body.decode(self._charset, errors="replace")
        except (LookupError, ValueError):
            return self.body.decode("utf-8", errors="replace")

    def raise_for_status(self) -> Self:
        """Return self, or raise BadStatus if the status is 400 or more, Unavailable if it is 429, 502, 503 or 504."""
        if self.status >= 400:
            kind = Unavailable if self.status in STATUSES else BadStatus
            words = f"{self._host} answered with status {self._status_words}."
            raise kind(words, status=self.status, retry_after=retry_after(self.headers))
        return self

    @property
    def _host(self) -> str:
        first = self.history[0] if self.history else self
        return URL(first.url).raw_authority

    @property
    def _status_words(self) -> str:
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
                # Decoders of host names: slow on long input, and no server means them.
                return "utf-8" if charset.startswith(("idna", "puny")) else charset
        return "utf-8"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
