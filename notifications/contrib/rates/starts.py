"""What claims of jobs take from limits, in their transactions: see ``notifications/jobs/transitions/limiting.py``."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from notifications.contrib.rates.declarations import Rate, rate_of
from notifications.contrib.rates.models import Limit
from notifications.contrib.rates.tokens import (
    TOKEN_COLUMNS,
    count_free,
    pay,
    read_state,
    seconds_until,
    to_microseconds,
)
from notifications.db import chunks, database, insert_rows, lock_query, update_rows_by_id

#: How many jobs may start now, and when some more may.
State = tuple[int, datetime]

logger = logging.getLogger("notifications.jobs")

#: Seconds until jobs are looked at again whose limit another transaction has locked, and whose row is damaged.
LOCKED_PAUSE_SECONDS, DAMAGED_PAUSE_SECONDS = 0.02, 60.0
#: Added to the time at which a limit gives tokens, which is rounded.
ROUNDING = timedelta(milliseconds=1)


@dataclass(slots=True)
class _Row:
    """The columns of ``Limit`` that a claim reads: a time that is damaged would fail the query of all rows."""

    key: str
    busy_until: int = 0
    token_interval: int = 0
    closed_until: int = 0
    used: int = 0
    window_at: int = 0
    window_used: int = 0


_COLUMNS = ("key", "closed_until", *TOKEN_COLUMNS)


def allow(wanted: Mapping[str, int], now: datetime, *, counts: bool) -> Mapping[str, State]:
    """Return how many jobs with these keys may start now: see ``Extension.allow_starts()``."""
    return (_take if counts else _read)(wanted, now)


def _take(wanted: Mapping[str, int], now: datetime) -> Mapping[str, State]:
    rates, moment = _rates_of(wanted), to_microseconds(now)
    rows = _read_rows(rates, lock=True)
    if missing := rates.keys() - rows.keys() - _existing(rates.keys() - rows.keys()):
        new = [Limit(key=key, name=rates[key].name, used_at=now) for key in sorted(missing)]
        insert_rows(new, ignore_conflicts=True)
        rows |= _read_rows(missing, lock=True)
    states, used = {}, {}
    for key, rate in rates.items():
        row = rows.get(key)
        if row is None:
            states[key] = (0, now + timedelta(seconds=LOCKED_PAUSE_SECONDS))
        else:
            states[key] = _state_of(row, rate, now, moment, wanted[key])
            used[key] = states[key][0]
    _save([row for key, row in rows.items() if used[key] or _is_changed(row, rates[key])], rates, used, now)
    return states


def _read(wanted: Mapping[str, int], now: datetime) -> Mapping[str, State]:
    rates, moment = _rates_of(wanted), to_microseconds(now)
    rows = _read_rows(rates)
    if changed := [key for key, row in rows.items() if _is_changed(row, rates[key])]:
        # From now on the rate counts that is declared now.
        locked = _read_rows(changed, lock=True)
        _save(locked.values(), rates, {}, now)
        rows |= locked
    return {
        key: _state_of(rows.get(key, _Row(key)), rate, now, moment, wanted[key])
        for key, rate in rates.items()
    }


def _rates_of(keys: Collection[str]) -> dict[str, Rate]:
    return {key: rate for key in sorted(keys) if (rate := rate_of(key))}


def _read_rows(keys: Collection[str], *, lock: bool = False) -> dict[str, _Row]:
    found: dict[str, _Row] = {}
    for chunk in chunks(sorted(keys)):
        rows = Limit.objects.using(database()).filter(key__in=chunk).order_by("key")
        for values in (lock_query(rows) if lock else rows).values_list(*_COLUMNS):
            found[values[0]] = _Row(**dict(zip(_COLUMNS, values, strict=True)))
    return found


def _existing(keys: Collection[str]) -> set[Any]:
    """Return those of these keys that have a row, locked or not."""
    if not keys:
        return set()
    return set(Limit.objects.using(database()).filter(key__in=keys).values_list("key", flat=True))


def _is_changed(row: _Row, rate: Rate) -> bool:
    """Return whether a limit was last used by another rate than the one that is declared."""
    return row.token_interval not in (0, rate.interval)


def _save(rows: Iterable[_Row], rates: Mapping[str, Rate], used: Mapping[str, int], now: datetime) -> None:
    """Store what is used of limits whose rows are locked, in one statement."""
    changed = {}
    for row in rows:
        count = used.get(row.key, 0)
        try:
            pay(row, rates[row.key], to_microseconds(now), count)
            changed[row.key] = (*(getattr(row, column) for column in TOKEN_COLUMNS), now)
        except TypeError:
            continue  # it is damaged, as the log says
    update_rows_by_id(Limit, (*TOKEN_COLUMNS, "used_at"), changed)


def _state_of(row: _Row, rate: Rate, now: datetime, moment: int, most: int) -> State:
    """Return what a limit allows now, at most so many starts, and when it allows some after these."""
    try:
        state = read_state(row, rate, moment)
        free = min(count_free(state, rate), most)
        seconds = seconds_until(state.after(free, rate), rate, rate.opening)
        return (free, now + timedelta(seconds=seconds) + ROUNDING)
    except (TypeError, ValueError, ArithmeticError) as exc:
        logger.error("The limit %s is damaged, its jobs wait: %r", row.key, exc)
        return (0, now + timedelta(seconds=DAMAGED_PAUSE_SECONDS))
