"""Whether a request is sent again, and after how long (RFC 9110, sections 9.2.2 and 10.2.3)."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from .redirects import Ask

#: Methods that may be sent twice. Others may with an Idempotency-Key.
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})

#: Statuses that say "not now".
STATUSES = frozenset({429, 502, 503, 504})

#: Seconds: the most before the first retry, doubled with each, and the most before any.
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 10.0


def may_be_repeated(ask: Ask) -> bool:
    """Whether sending the request twice does no more than sending it once."""
    return ask.method in IDEMPOTENT or "Idempotency-Key" in ask.headers


def pause(retry: int, asked: float | None, left: float) -> float | None:
    """Return the seconds to wait before a retry (1, 2, ...), or None if the deadline leaves no time for it.

    ``asked``: what Retry-After says, in seconds; never less than that is waited.
    ``left``: seconds until the deadline. Not more than half of what remains of it is spent on waiting by itself.
    Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), also on top of a
    Retry-After, so that all who were told the same do not come back at the same moment.
    """
    least = asked or 0.0
    if left <= least:
        return None
    return least + random.uniform(
        0, min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (retry - 1), (left - least) / 2)
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return what the header Retry-After says, seconds or a date, in seconds from now; None if it says nothing."""
    told = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", told, re.ASCII):
        return float(told)
    try:
        moment = parsedate_to_datetime(told[:64])
    except (ValueError, IndexError, OverflowError):  # whatever stands there
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
