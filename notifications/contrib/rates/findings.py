"""What ``doctor`` examines: limits that partners have closed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Info, Warning

from notifications.contrib.rates.declarations import rate_of, read_rates
from notifications.contrib.rates.models import Limit
from notifications.contrib.rates.tokens import MAX_CLOSED_SECONDS, SECOND, to_microseconds
from notifications.db import database
from notifications.extension import Check

#: Limits that are read, and those that the message names, at most.
MAX_LIMITS, MAX_LIMITS_NAMED = 1_000, 10


class RatesCheck(Check):
    """Partners have closed their limits."""

    id = "rates"

    def find(self, examination: Any) -> Iterator[CheckMessage]:
        now = to_microseconds(examination.now)
        rows = Limit.objects.using(database()).filter(
            closed_until__gt=now, closed_until__lte=now + MAX_CLOSED_SECONDS * SECOND
        )
        closed = [limit for limit in rows.order_by("key")[:MAX_LIMITS] if rate_of(limit.key)]
        named = ", ".join(
            f"{limit.key} for {(limit.closed_until - now) / SECOND:.0f} s ({limit.corrected_by})"
            for limit in closed[:MAX_LIMITS_NAMED]
        )
        if closed:
            others = len(closed) - MAX_LIMITS_NAMED
            yield Warning(
                f"Partners take nothing now: {named}{f' and {others} more' if others > 0 else ''}.",
                hint="Declare lower rates in NOTIFICATIONS['RATES'] if this comes back.",
                obj={"closed": [limit.key for limit in closed[:MAX_LIMITS_NAMED]]},
            )
            return
        count = len(read_rates().by_name)
        yield Info(f"Declared: {count}." if count else "None is declared.")


def make_checks() -> list[Check]:
    return [RatesCheck()]
