"""What ``doctor`` examines: the declared rates, and limits that partners have closed."""

from __future__ import annotations

from collections.abc import Iterator

from notifications.contrib.rates.declarations import find_wrong, rate_of, read_rates
from notifications.contrib.rates.models import Limit
from notifications.contrib.rates.tokens import MAX_CLOSED_SECONDS, SECOND
from notifications.db.clock import database_now
from notifications.db.transactions import database
from notifications.management.diagnosis.finding import OK, WARNING, Finding
from notifications.times import to_microseconds

#: Limits that a message names at most.
MAX_LIMITS_NAMED = 10


def find_rates(timeout: float) -> Iterator[Finding]:
    """Yield whether all rates are declared correctly, and which limits are closed by their partners."""
    if wrong := list(find_wrong()):
        others = f" manage.py check has {len(wrong) - 1} more." if len(wrong) > 1 else ""
        yield Finding("rates", WARNING, f"{wrong[0].message} ({wrong[0].id}){others}", wrong[0].hint)
        return
    now = to_microseconds(database_now())
    rows = (
        Limit.objects.using(database())
        .order_by("key")
        .filter(closed_until__gt=now, closed_until__lt=now + MAX_CLOSED_SECONDS * SECOND)
    )
    closed = [limit for limit in rows[: MAX_LIMITS_NAMED + 1] if rate_of(limit.key)]
    if closed:
        named = ", ".join(
            f"{limit.key} (for {(limit.closed_until - now) / SECOND:.0f} s: {limit.corrected_by})"
            for limit in closed[:MAX_LIMITS_NAMED]
        )
        more = " and more" if len(closed) > MAX_LIMITS_NAMED else ""
        yield Finding(
            "rates",
            WARNING,
            f"Partners have closed their limits: {named}{more}.",
            "Declare lower rates in NOTIFICATIONS['RATES'] if this comes back.",
            {"closed": [limit.key for limit in closed[:MAX_LIMITS_NAMED]]},
        )
        return
    count = len(read_rates().by_name)
    yield Finding("rates", OK, f"Declared correctly: {count}." if count else "None is declared.")
