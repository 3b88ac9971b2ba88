"""What ``doctor`` examines: limits that partners have closed, and for which jobs wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Info, Warning

from notifications.contrib.rates.declarations import read_rates
from notifications.contrib.rates.models import Limit
from notifications.contrib.rates.uses import MAX_COUNTED, LimitUse, read_uses
from notifications.db import database
from notifications.extension import Check

#: Limits that are read, and those that the message names, at most.
MAX_LIMITS, MAX_LIMITS_NAMED = 1_000, 10


class RatesCheck(Check):
    """Partners have closed their limits."""

    id = "rates"

    def find(self, examination: Any) -> Iterator[CheckMessage]:
        limits = list(Limit.objects.using(database()).order_by("key")[:MAX_LIMITS])
        uses = read_uses(limits, examination.now)
        closed = [limit for limit in limits if uses[limit.key].rate and uses[limit.key].closed_seconds]
        named = ", ".join(
            f"{limit.key} for {uses[limit.key].closed_seconds:.0f} s ({limit.corrected_by})"
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
        text = f"Declared: {count}." if count else "None is declared."
        waiting = sorted((key for key in uses if uses[key].waiting), key=lambda key: -uses[key].waiting)
        named_waiting = [_describe(key, uses[key]) for key in waiting[:MAX_LIMITS_NAMED]]
        yield Info(
            " ".join([text, *named_waiting]),
            obj={"waiting": {key: uses[key].waiting for key in waiting[:MAX_LIMITS_NAMED]}},
        )


def _describe(key: str, use: LimitUse) -> str:
    least = "over " if use.is_capped else ""
    jobs = f"{key}: {least}{min(use.waiting, MAX_COUNTED):,} jobs waiting"
    if use.rate is None:
        return f"{jobs}, its rate is not declared."
    return f"{jobs}, all begun in {least}{use.seconds:,.0f} s; {use.used:,} of {use.rate.text} used."


def make_checks() -> list[Check]:
    return [RatesCheck()]
