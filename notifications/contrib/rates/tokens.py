"""Take what a limit allows now: the generic cell rate algorithm on one row a key.

A limit is busy until the end of an interval for each token that was taken, from the moment at which it was taken. It
gives tokens while that is no further ahead than ``burst_at_once`` intervals. What the row has is a moment, so hours in
which nothing is taken give no more than one burst. All times are those of the database's clock, in microseconds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from notifications.contrib.rates.declarations import HOLD, Rate
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


def to_microseconds(moment: datetime) -> int:
    """Return a time as limits store it."""
    return round(moment.timestamp() * SECOND)


class LimitState(NamedTuple):
    """What a limit allows at a moment, all in microseconds.

    ``busy``
        How far ahead the limit is busy, with the jobs that were released and have not begun.
    ``closed``
        For how long it gives nothing at all.
    """

    busy: int
    closed: int


def read_state(limit: Limit, rate: Rate, now: int, released: int) -> LimitState:
    """Return the state of the row of a limit at a moment, with so many jobs that were released and have not begun."""
    busy, closed = limit.busy_until - now, limit.closed_until - now
    full = rate.burst_at_once * rate.interval
    if busy > full + MAX_CLOSED_SECONDS * SECOND:
        busy = full
    if closed > MAX_CLOSED_SECONDS * SECOND:
        closed = 0
    return LimitState(max(busy, 0) + released * rate.interval, max(closed, 0))


def count_free(state: LimitState, rate: Rate, ahead: int = 0) -> int:
    """Return how many tokens a limit gives now, or within ``ahead`` microseconds."""
    if state.closed > ahead:
        return 0
    return max(0, (rate.burst_at_once * rate.interval + ahead - state.busy) // rate.interval)


def seconds_until(state: LimitState, rate: Rate, tokens: int = 1) -> float:
    """Return in how many seconds a limit gives so many tokens, one after the other."""
    full = rate.burst_at_once * rate.interval
    return max(state.closed, state.busy + tokens * rate.interval - full, 0) / SECOND


def take(rate: Rate, key: str, count: int) -> float:
    """Take ``count`` tokens, in one round trip. Return 0.0, or in how many seconds there may be as many."""
    if _take(rate, key, count):
        return 0.0
    limit = Limit.objects.using(database()).filter(pk=key).first()
    if limit is None:
        _insert(rate, key)
        return take(rate, key, count)
    state = read_state(limit, rate, to_microseconds(database_now()), limit.releases.using(database()).count())
    return max(seconds_until(state, rate, count), 0.001)


def _take(rate: Rate, key: str, count: int) -> bool:
    full, cost = rate.burst_at_once * rate.interval, count * rate.interval
    moment, params = now_sql()
    now, param = database_now_sql()
    longest = MAX_CLOSED_SECONDS * SECOND
    busy = (
        f"CASE WHEN busy_until > moment + {full + longest} THEN moment + {full} "
        "WHEN busy_until > moment THEN busy_until ELSE moment END"
    )
    released = "(SELECT count(*) FROM notifications_rates_release WHERE limit_id = %s)"
    sql = f"""
        UPDATE notifications_rates_limit SET
            busy_until = {busy} + {cost}, used = used + {count}, used_at = {now}
        FROM (SELECT {moment} AS moment) AS clock
        WHERE key = %s AND (closed_until <= moment OR closed_until > moment + {longest})
            AND {busy} + {cost} + {released} * {rate.interval} <= moment + {full}
        RETURNING 1
    """
    # By itself it would count the releases as they were before it waited for the row.
    lock = "SELECT 1 FROM notifications_rates_limit WHERE key = %s", [key]
    return bool(execute_one(sql, [param, *params, key, key], lock=lock))


def lock(rate: Rate, key: str, *, skip_locked: bool = False) -> Limit | None:
    """Lock the row of a key, which is inserted if there is none. None if another transaction has it locked."""
    rows = Limit.objects.using(database()).filter(pk=key)
    found: Limit | None = lock_query(rows, skip_locked=skip_locked).first()
    if found is None and not rows.exists():
        _insert(rate, key)
        found = lock_query(rows, skip_locked=skip_locked).first()
    return found


def pay(limit: Limit, rate: Rate, moment: int, count: int = 1) -> None:
    """Count tokens that were used at a moment, on a row that is locked and not saved yet."""
    limit.busy_until = moment + read_state(limit, rate, moment, 0).busy + count * rate.interval
    limit.used += count


def charge(rate: Rate, key: str, cost: int) -> None:
    """Count ``cost`` more, at most an hour of the rate; fewer if it is negative. See ``api.charge()``."""

    def write() -> None:
        limit = lock(rate, key)
        assert limit is not None
        limit.used_at = database_now()
        now = to_microseconds(limit.used_at)
        most = now + rate.burst_at_once * rate.interval + MAX_CLOSED_SECONDS * SECOND
        limit.busy_until = min(max(limit.busy_until, now) + cost * rate.interval, most)
        limit.used = max(0, limit.used + cost)
        limit.save(using=database(), update_fields=["busy_until", "used", "used_at"])

    retrying_atomic(write)


def correct(rate: Rate, key: str, header: str, *, left: int | None, seconds: float) -> None:
    """Follow what a partner has said: it takes ``left`` more now, None for nothing for ``seconds``.

    The limit never gives more than it is declared to.
    """

    def write() -> None:
        limit = lock(rate, key)
        assert limit is not None
        now = database_now()
        moment = to_microseconds(now)
        if left is None:
            closed = moment + int(min(seconds, MAX_CLOSED_SECONDS) * SECOND)
            state = read_state(limit, rate, moment, 0)
            limit.closed_until = max(closed, moment + state.closed)
        else:
            least = moment + (rate.burst_at_once - left) * rate.interval
            limit.busy_until = max(limit.busy_until, least)
        limit.corrected_by, limit.corrected_at = header[:200], now
        limit.save(
            using=database(), update_fields=["busy_until", "closed_until", "corrected_by", "corrected_at"]
        )

    retrying_atomic(write)


def now_sql() -> tuple[str, list[Any]]:
    """Return SQL for the moment of the database's clock, and its parameters."""
    if connection().vendor == "postgresql":
        moment, param = database_now_sql()
        return f"CAST(extract(epoch FROM {moment}) * {SECOND} AS bigint)", [param]
    return "%s", [to_microseconds(database_now())]


def _insert(rate: Rate, key: str) -> None:
    row = Limit(key=key, name=rate.name, bucket=HOLD.name_of(key), used_at=database_now())
    Limit.objects.using(database()).bulk_create([row], ignore_conflicts=True)
