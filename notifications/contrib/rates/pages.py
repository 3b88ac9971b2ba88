"""What is said of a queued job that waits for the limit of a rate, and about until when."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.utils import timezone
from django.utils.formats import date_format

from notifications.contrib.rates import tokens
from notifications.contrib.rates.declarations import rate_of
from notifications.contrib.rates.models import Limit
from notifications.db import database, database_now
from notifications.jobs import LimitLine
from notifications.models import Job
from notifications.times import format_time

#: Jobs before this one that are counted.
MAX_COUNTED = 1_000
#: Seconds after which an open page is loaded again: at the time that it shows, after which that is wrong, but not
#: earlier and later than these. A limit that moves back begins the job earlier, which is pushed.
MIN_RELOAD_SECONDS, MAX_RELOAD_SECONDS = 10, 3_600
#: The same for a page that shows no time.
RELOAD_SECONDS = 300


class Waiting(NamedTuple):
    """The rate for which a job waits, and about when it may begin: None if over ``MAX_COUNTED`` jobs come first.

    ``seconds``
        Until then.
    """

    name: str
    at: datetime | None
    seconds: float = 0.0


def read_waiting(job: Job) -> Waiting | None:
    """Return what a job waits for, in three queries at most; None if it does not wait for a rate."""
    rate = rate_of(job.limit_key) if job.waits_for_limit else None
    if rate is None:
        return None
    now = database_now()
    before = LimitLine.count_before(job, MAX_COUNTED + 1)
    if before > MAX_COUNTED:
        return Waiting(rate.name, None)
    limit = Limit.objects.using(database()).filter(pk=job.limit_key).first() or Limit(key=job.limit_key)
    state = tokens.read_state(limit, rate, tokens.to_microseconds(now))
    seconds = tokens.seconds_until(state, rate, before + 1)
    return Waiting(rate.name, now + timedelta(seconds=seconds), seconds)


def describe_for_page(job: Job, request: Any) -> dict[str, Any]:
    """Return the context of ``notifications/rate.html``, and when an open page of the job is loaded again."""
    waiting = read_waiting(job)
    if waiting is None:
        return {}
    until = min(max(math.ceil(waiting.seconds), MIN_RELOAD_SECONDS), MAX_RELOAD_SECONDS)
    return {
        "rate_name": waiting.name,
        "rate_time": _local_time(waiting.at),
        "reload_after": until if waiting.at else RELOAD_SECONDS,
    }


def describe_in_lines(job: Job) -> Iterator[str]:
    """Yield the lines of ``jobs show``."""
    if waiting := read_waiting(job):
        about = f", about {_local_time(waiting.at)}" if waiting.at else ""
        yield ""
        yield f"Waits for the limit of {waiting.name}{about}."


def describe_as_json(job: Job) -> dict[str, Any] | None:
    """Return what ``jobs show --json`` has, with the time in UTC."""
    waiting = read_waiting(job)
    return waiting and {"name": waiting.name, "about": format_time(waiting.at)}


def _local_time(moment: datetime | None) -> str:
    return "" if moment is None else date_format(timezone.localtime(moment), "H:i")
