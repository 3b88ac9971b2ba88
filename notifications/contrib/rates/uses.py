"""What people read of limits, on the pages of the admin, by ``doctor`` and as metrics."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from notifications.contrib.rates.declarations import Rate, rate_of, read_rates
from notifications.contrib.rates.models import Limit
from notifications.contrib.rates.tokens import (
    MAX_CLOSED_SECONDS,
    SECOND,
    read_state,
    seconds_until,
    to_microseconds,
    used_in_window,
)
from notifications.db import database
from notifications.jobs import LimitLine

#: Waiting jobs of a limit that are counted.
MAX_COUNTED = 1_000


class LimitUse(NamedTuple):
    """What a limit has used and what waits for it, at a moment.

    ``used``
        In the minute, hour or day of its rate; None if its rate is not declared.
    ``waiting``
        Jobs, at most one more than ``MAX_COUNTED``.
    ``seconds``
        Until about when the waiting ones will have begun, or the first ``MAX_COUNTED`` of more; 0.0 if none waits.
    ``closed_seconds``
        For how long the partner takes nothing.
    """

    rate: Rate | None
    used: int | None
    waiting: int
    seconds: float
    closed_seconds: float

    @property
    def is_capped(self) -> bool:
        """Whether more jobs wait than are counted."""
        return self.waiting > MAX_COUNTED


def read_uses(limits: Iterable[Limit], now: datetime) -> dict[str, LimitUse]:
    """Return what these limits have used, by key, in a query for all of them."""
    limits, moment = list(limits), to_microseconds(now)
    counts = LimitLine.count_waiting([limit.key for limit in limits], MAX_COUNTED + 1)
    return {limit.key: _use_of(limit, counts[limit.key], moment) for limit in limits}


def _use_of(limit: Limit, waiting: int, moment: int) -> LimitUse:
    closed = (limit.closed_until - moment) / SECOND
    closed = closed if 0 < closed <= MAX_CLOSED_SECONDS else 0.0
    if (rate := rate_of(limit.key)) is None:
        return LimitUse(None, None, waiting, 0.0, closed)
    count = min(waiting, MAX_COUNTED)
    seconds = seconds_until(read_state(limit, rate, moment), rate, count) if count else 0.0
    return LimitUse(rate, used_in_window(limit, rate, moment), waiting, seconds, closed)


def unused_limits(now: datetime) -> list[Limit]:
    """Return limits of declared rates that have no row, as they would be: none of their keys was used yet."""
    names = read_rates().by_name
    used = set(
        Limit.objects.using(database()).filter(name__in=names).values_list("name", flat=True).distinct()
    )
    return [Limit(key=name, name=name, used_at=now) for name in sorted(names.keys() - used)]


def moment_after(now: datetime, seconds: float) -> datetime:
    """Return the moment so many seconds later, at most a year."""
    return now + timedelta(seconds=min(seconds, 366 * 86_400))
