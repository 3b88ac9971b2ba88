"""Take what a limit allows now: the generic cell rate algorithm on one row a key.

A limit is busy until the end of an interval for each token that was taken, from the moment at which it was taken. It
gives tokens while that is no further ahead than ``burst_at_once`` intervals. What the row has is a moment, so hours in
which nothing is taken give no more than one burst. All times are those of the database's clock, in microseconds.

The row has the interval of its tokens too: when another rate is declared, so many tokens of that one are taken.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple, Protocol

from django.db import transaction

from notifications.contrib.rates.declarations import Rate
from notifications.contrib.rates.models import Limit
from notifications.db import (
    connection,
    database,
    database_now,
    database_now_sql,
    execute_one,
    lock_query,
    retrying_atomic,
)

SECOND = 1_000_000
#: Seconds for which a partner may close a limit, and which a charge may add at most. What is stored further ahead than
#: these, and a burst, was stored by a clock that was set back since.
MAX_CLOSED_SECONDS = 3_600


#: What ``pay()`` changes of a row.
TOKEN_COLUMNS = ("busy_until", "token_interval", "used", "window_at", "window_used")


def to_microseconds(moment: datetime) -> int:
    """Return a time as limits store it."""
    return round(moment.timestamp() * SECOND)


class StoredTimes(Protocol):
    """A row of ``Limit``, or its columns with the state of the algorithm."""

    busy_until: int
    token_interval: int
    closed_until: int
    used: int
    window_at: int
    window_used: int


class TokenState(NamedTuple):
    """What a limit allows at a moment, all in microseconds.

    ``busy``
        How far ahead the limit is busy.
    ``closed``
        For how long it gives nothing at all.
    """

    busy: int
    closed: int

    def after(self, tokens: int, rate: Rate) -> TokenState:
        """Return the state when so many tokens are taken."""
        return TokenState(self.busy + tokens * rate.interval, self.closed)


def read_state(row: StoredTimes, rate: Rate, now: int) -> TokenState:
    """Return the state of the row of a limit at a moment."""
    busy, closed = row.busy_until - now, row.closed_until - now
    if row.token_interval and row.token_interval != rate.interval:
        busy = busy * rate.interval // row.token_interval
    full = rate.burst_at_once * rate.interval
    if busy > full + MAX_CLOSED_SECONDS * SECOND:
        busy = full
    if closed > MAX_CLOSED_SECONDS * SECOND:
        closed = 0
    return TokenState(max(busy, 0), max(closed, 0))


def count_free(state: TokenState, rate: Rate) -> int:
    """Return how many tokens a limit gives now."""
    return 0 if state.closed else max(0, rate.burst_at_once - -(-state.busy // rate.interval))


def seconds_until(state: TokenState, rate: Rate, tokens: int = 1) -> float:
    """Return in how many seconds a limit gives so many tokens, one after the other."""
    full = rate.burst_at_once * rate.interval
    return max(state.closed, state.busy + tokens * rate.interval - full, 0) / SECOND


def take(rate: Rate, key: str, count: int) -> float:
    """Take ``count`` tokens, in one round trip. Return 0.0, or in how many seconds there may be as many."""
    if _take(rate, key, count):
        return 0.0
    limit = Limit.objects.using(database()).filter(pk=key).first()
    if limit is None:
        insert(rate, key)
        return take(rate, key, count)
    if limit.token_interval not in (0, rate.interval):
        charge(rate, key, 0)  # from now on the rate counts that is declared now
    state = read_state(limit, rate, to_microseconds(database_now()))
    return max(seconds_until(state, rate, count), 0.001)


def _take(rate: Rate, key: str, count: int) -> bool:
    full, cost = rate.burst_at_once * rate.interval, count * rate.interval
    moment, params = now_sql()
    now, param = database_now_sql()
    longest = MAX_CLOSED_SECONDS * SECOND
    # In floating point: the product may have more digits than an integer of the database.
    ahead = (
        f"CASE WHEN token_interval IN (0, {rate.interval}) THEN busy_until - moment ELSE CAST("
        f"CAST(busy_until - moment AS double precision) * {rate.interval} / token_interval AS bigint) END"
    )
    busy = (
        f"CASE WHEN {ahead} > {full + longest} THEN moment + {full} WHEN busy_until > moment THEN moment + {ahead} "
        "ELSE moment END"
    )
    is_same_window = f"moment - window_at BETWEEN 0 AND {rate.seconds * SECOND - 1}"
    sql = f"""
        UPDATE notifications_rates_limit SET busy_until = {busy} + {cost}, token_interval = {rate.interval},
            used = used + {count}, used_at = {now},
            window_used = CASE WHEN {is_same_window} THEN window_used ELSE 0 END + {count},
            window_at = CASE WHEN {is_same_window} THEN window_at ELSE moment END
        FROM (SELECT {moment} AS moment) AS clock
        WHERE key = %s AND (closed_until <= moment OR closed_until > moment + {longest})
            AND {busy} + {cost} <= moment + {full}
        RETURNING 1
    """
    return bool(execute_one(sql, [param, *params, key]))


def pay(limit: StoredTimes, rate: Rate, moment: int, count: int = 1) -> None:
    """Count tokens that are taken at a moment, on a row that is locked and not saved yet."""
    limit.busy_until = moment + read_state(limit, rate, moment).busy + count * rate.interval
    limit.token_interval = rate.interval
    limit.window_used = max(0, used_in_window(limit, rate, moment) + count)
    if not _is_in_window(limit, rate, moment):
        limit.window_at = moment
    limit.used = max(0, limit.used + count)


def used_in_window(limit: StoredTimes, rate: Rate, moment: int) -> int:
    """Return what is used of a limit in the minute, hour or day of its rate, which begins with the first use."""
    return limit.window_used if _is_in_window(limit, rate, moment) else 0


def _is_in_window(limit: StoredTimes, rate: Rate, moment: int) -> bool:
    return 0 <= moment - limit.window_at < rate.seconds * SECOND


def charge(rate: Rate, key: str, cost: int) -> None:
    """Count ``cost`` more, at most an hour of the rate; fewer if it is negative. See ``api.charge()``."""

    def write() -> None:
        limit = _lock(rate, key)
        limit.used_at = database_now()
        now = to_microseconds(limit.used_at)
        most = now + rate.burst_at_once * rate.interval + MAX_CLOSED_SECONDS * SECOND
        pay(limit, rate, now, cost)
        limit.busy_until = min(limit.busy_until, most)
        limit.save(using=database(), update_fields=[*TOKEN_COLUMNS, "used_at"])

    transaction.on_commit(lambda: retrying_atomic(write), using=database())


def correct(rate: Rate, key: str, header: str, *, left: int | None, seconds: float) -> None:
    """Follow what a partner has said: it takes ``left`` more now, None for nothing for ``seconds``.

    Those are ``MAX_CLOSED_SECONDS`` at most. The limit never gives more than it is declared to.
    """

    def write() -> None:
        limit = _lock(rate, key)
        now = database_now()
        moment = to_microseconds(now)
        if left is None:
            closed = moment + int(seconds * SECOND)
            limit.closed_until = max(closed, moment + read_state(limit, rate, moment).closed)
        else:
            pay(limit, rate, moment, 0)
            limit.busy_until = max(limit.busy_until, moment + (rate.burst_at_once - left) * rate.interval)
        limit.corrected_by, limit.corrected_at = header[:200], now
        columns = [*TOKEN_COLUMNS, "closed_until", "corrected_by", "corrected_at"]
        limit.save(using=database(), update_fields=columns)

    retrying_atomic(write)


def now_sql() -> tuple[str, list[Any]]:
    """Return SQL for the moment of the database's clock, and its parameters."""
    if connection().vendor == "postgresql":
        moment, param = database_now_sql()
        return f"CAST(extract(epoch FROM {moment}) * {SECOND} AS bigint)", [param]
    return "%s", [to_microseconds(database_now())]


def insert(rate: Rate, *keys: str) -> None:
    """Insert the rows of keys that have none."""
    now = database_now()
    rows = [Limit(key=key, name=rate.name, used_at=now) for key in sorted(keys)]
    Limit.objects.using(database()).bulk_create(rows, ignore_conflicts=True)


def _lock(rate: Rate, key: str) -> Limit:
    rows = Limit.objects.using(database()).filter(pk=key)
    found: Limit | None = lock_query(rows, skip_locked=False).first()
    if found is None:
        insert(rate, key)
        found = lock_query(rows, skip_locked=False).get()
    return found
