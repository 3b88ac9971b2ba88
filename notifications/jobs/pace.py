"""How long a job has been running, how fast it advances and how long it will still take, in words."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils.formats import number_format
from django.utils.translation import gettext

from notifications import times

#: Earlier, one slow step would make the estimate meaningless.
MIN_ELAPSED_SECONDS = 5


def describe_elapsed(job: Any) -> str:
    """Return how long the attempt of a ``Job`` or ``JobInfo`` has been running: "Running for 3 min", else ``""``.

    The browser client computes it in the same way (``formatElapsed()``).
    """
    if job.state != "running" or not job.started_at:
        return ""
    # The clock of this process may be behind that of the worker's database.
    seconds = max(_seconds_since(job.started_at), 0)
    if seconds < 60:
        return gettext("Running for {count} s").format(count=_round(int(seconds)))
    if seconds < 3600:
        return gettext("Running for {count} min").format(count=_round(int(seconds // 60)))
    return gettext("Running for {count} h").format(count=_round(int(seconds // 3600)))


def describe_pace(job: Any) -> str:
    """Return the pace of a ``Job`` or ``JobInfo``: "4.2 per second, about 2 min left", or ``""`` if it is not known.

    It is known for the first attempt of a running job that has reported steps of a total for 5 seconds: a later attempt
    continues the count of the one before. The browser client computes it in the same way (``formatPace()``).
    """
    current, total = job.progress_current, job.progress_total
    if job.state != "running" or job.attempt != 1 or not current or total is None or current >= total:
        return ""
    elapsed = _seconds_since(job.started_at) if job.started_at else 0.0
    if elapsed < MIN_ELAPSED_SECONDS:
        return ""
    per_second = current / elapsed
    seconds_left = (total - current) / per_second
    return gettext("{rate}, {time}").format(
        rate=_describe_rate(per_second), time=_describe_time_left(seconds_left)
    )


def _seconds_since(moment: datetime) -> float:
    return (times.now() - times.as_utc(moment)).total_seconds()


def _describe_rate(per_second: float) -> str:
    if per_second >= 1:
        return gettext("{count} per second").format(count=_round(per_second))
    return gettext("{count} per minute").format(count=_round(per_second * 60))


def _describe_time_left(seconds: float) -> str:
    if seconds < 60:
        return gettext("about {count} s left").format(count=_round(max(1, round(seconds))))
    if seconds < 3600:
        return gettext("about {count} min left").format(count=_round(round(seconds / 60)))
    return gettext("about {count} h left").format(count=_round(seconds / 3600))


def _round(number: float) -> str:
    """Return a number of at least 10 without decimals, a smaller one with at most one."""
    rounded = round(number) if number >= 10 else round(number, 1)
    whole = int(rounded) if rounded == int(rounded) else rounded
    return number_format(whole, use_l10n=True, force_grouping=True)
