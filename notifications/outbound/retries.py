"""Decide when a failed request is sent again (RFC 9110, section 10.2.3)."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: Statuses after which the same request may succeed.
RETRY_STATUSES = frozenset({429, 502, 503, 504})

#: The maximum delay before the first retry, which doubles with each retry, and before any retry.
INITIAL_DELAY_SECONDS, MAX_DELAY_SECONDS = 0.5, 10.0


def retry_delay(retry: int, retry_after: float | None, seconds_left: float) -> float | None:
    """Return the seconds to wait before a retry (1, 2, ...), or None if the deadline leaves no time for it.

    ``retry_after``: the seconds that the server asks for, which are the minimum.
    ``seconds_left``: seconds until the deadline. At most half of what remains after ``retry_after`` is added.

    The delay has full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), also on top
    of a Retry-After, so that clients that received the same value do not return at the same moment.
    """
    minimum = retry_after or 0.0
    if seconds_left <= minimum:
        return None
    return minimum + random.uniform(
        0, min(MAX_DELAY_SECONDS, INITIAL_DELAY_SECONDS * 2 ** (retry - 1), (seconds_left - minimum) / 2)
    )


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
