"""When a job may begin, and when it expires: options in seconds, as timedeltas or as datetimes.

No model is imported here: see ``policies.py``.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any, NoReturn

from django.conf import settings

from notifications import times

#: The longest time that an option may be.
MAX_DURATION = timedelta(days=3660)
_LONGEST = f"at most {MAX_DURATION.days:,} days"


def validate_expires(value: Any) -> timedelta:
    """Return ``expires`` of a policy. Raises TypeError and ValueError."""
    return _positive("expires", value, f"a number of seconds, or a timedelta, above 0 and {_LONGEST}")


def validate_expiry(value: Any) -> timedelta | datetime:
    """Return ``expires`` of ``.using()``. Raises TypeError and ValueError."""
    expected = f"an aware datetime, or a number of seconds or a timedelta above 0 and {_LONGEST}"
    if isinstance(value, datetime):
        if settings.USE_TZ and value.utcoffset() is None:
            _refuse("expires", value, expected)
        return value
    return _positive("expires", value, expected)


def validate_run_after(value: Any) -> timedelta | datetime:
    """Return ``run_after`` of ``.using()``. Raises TypeError and ValueError."""
    expected = f"an aware datetime, or a number of seconds or a timedelta of 0 or more and {_LONGEST}"
    if isinstance(value, datetime):
        return value  # Django refuses a naive one
    return _duration("run_after", value, expected)


def find_moments(
    run_after: datetime | timedelta | None, expires: datetime | timedelta | None
) -> tuple[datetime | None, datetime | None]:
    """Return when a job that is enqueued now may begin, and when it expires, both in UTC, None for no such time.

    Raises ValueError for a time that cannot be stored.
    """
    now = times.now()
    try:
        if isinstance(run_after, timedelta):
            run_after = now + run_after if run_after else None
        due_at = run_after and times.as_utc(run_after)
        if isinstance(expires, timedelta):
            return due_at, max(due_at or now, now) + expires
        return due_at, expires and times.as_utc(expires)
    except OverflowError as exc:
        raise ValueError(
            f"run_after is {run_after}, and expires is {expires}. Both must be between the years 1 and 9999 in UTC."
        ) from exc


def _positive(name: str, value: Any, expected: str) -> timedelta:
    return _duration(name, value, expected) or _refuse(name, value, expected)


def _duration(name: str, value: Any, expected: str) -> timedelta:
    """Return a duration of 0 or more, of seconds or a timedelta."""
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta):
        raise TypeError(f"{name} is {value!r}. It must be {expected}.")
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    # An integer may be too large for a float.
    is_number = isinstance(seconds, int) or math.isfinite(seconds)
    if not is_number or not 0 <= seconds <= MAX_DURATION.total_seconds():
        _refuse(name, value, expected)
    return timedelta(seconds=seconds)


def _refuse(name: str, value: Any, expected: str) -> NoReturn:
    raise ValueError(f"{name} is {value!r}. It must be {expected}.")
