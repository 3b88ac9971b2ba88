"""A duty that releases jobs when the limits that they wait for allow it.

Jobs of a task with a rate are queued as held ones, by the key of their rate. A round locks the row of a limit, so any
number of processes may do it, and releases as many as the next ``AHEAD_SECONDS`` allow. What was released and has not
begun stays counted as if it began now, so a full queue, a busy worker or a killed process make no burst later. It is
paid for with the time at which it began.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from functools import partial

from notifications.contrib.rates import tokens
from notifications.contrib.rates.declarations import AHEAD_SECONDS, HOLD, Rate, rate_of
from notifications.contrib.rates.models import Limit, Release
from notifications.contrib.rates.tokens import to_microseconds
from notifications.db import chunks, database, database_now, retrying_atomic
from notifications.extension import Duty, Upkeep, Where
from notifications.jobs import HeldJobs
from notifications.models import Job
from notifications.times import as_utc, latest_possible

#: Jobs that one transaction releases.
MAX_RELEASED = 100
#: The time after which a job that was released and has not begun is held again, behind the others of its share: its
#: queue may have no worker.
MAX_WAIT = timedelta(seconds=10)


def make_duties(process: Upkeep) -> list[Duty]:
    """Return the duty of each process that lasts. It finds the rows locked where another process is at them."""
    return [
        Duty(
            "release jobs of rates",
            0,
            release_due,
            Where.LASTING,
            is_for_each_process=True,
            condition=_condition,
        )
    ]


def release_due() -> bool:
    """Release jobs of all limits. Return whether there may be more at once."""
    waiting = {held.name: held for held in HeldJobs.find()}
    has_more = False
    now = to_microseconds(database_now())
    for limit, released in _read_limits(waiting):
        rate = rate_of(limit.key)
        held = waiting.pop(limit.bucket, None)
        if rate is None:
            has_more |= _release_without_limit(held)
        elif released or tokens.count_free(tokens.read_state(limit, rate, now, 0), rate, _AHEAD):
            has_more |= retrying_atomic(partial(_release, rate, limit.key, held))
    for held in waiting.values():  # those that have no row yet
        has_more |= _release_first(held)
    return has_more


_AHEAD = int(AHEAD_SECONDS * tokens.SECOND)


def _condition() -> tuple[str, list[object]]:
    sql, params = HeldJobs.condition()
    return f"{sql} OR EXISTS (SELECT 1 FROM notifications_rates_release)", params


def _read_limits(buckets: Collection[str]) -> list[tuple[Limit, bool]]:
    """Return the limits for which jobs are held, or were released, and whether some were released."""
    rows = Limit.objects.using(database())
    unsettled = set(Release.objects.using(database()).order_by().values_list("limit", flat=True).distinct())
    found = {limit.key: limit for chunk in chunks(list(buckets)) for limit in rows.filter(bucket__in=chunk)}
    for chunk in chunks([key for key in unsettled if key not in found]):
        found |= rows.in_bulk(chunk)
    return [(limit, limit.key in unsettled) for limit in found.values()]


def _release_first(held: HeldJobs) -> bool:
    """Insert the row of a limit that a job names for the first time. Return whether jobs of it may be released."""
    job = held.first()
    key = HOLD.key_of(job) if job else ""
    if job is None or not key:
        return False  # another version of the code may know the task
    if HOLD.name_of(key) != held.name:
        # Its rate was declared otherwise when it was queued.
        return bool(retrying_atomic(partial(HeldJobs.hold_again, [job])))
    rate = rate_of(key)
    if rate is None:
        return _release_without_limit(held)
    return retrying_atomic(partial(_release, rate, key, held))


def _release_without_limit(held: HeldJobs | None) -> bool:
    """Release jobs whose rate is not declared any more, or wrongly."""
    return held is not None and len(retrying_atomic(partial(held.release, MAX_RELEASED))) == MAX_RELEASED


def _release(rate: Rate, key: str, held: HeldJobs | None) -> bool:
    limit = tokens.lock(rate, key, skip_locked=True)
    if limit is None:
        return False  # another process is at it
    now = database_now()
    moment = to_microseconds(now)
    waiting = _settle(limit, rate, now)
    state = tokens.read_state(limit, rate, moment, waiting)
    free = min(tokens.count_free(state, rate, _AHEAD), MAX_RELEASED)
    jobs = held.release(free) if free and held else []
    rows = [Release(limit=limit, job=job.id, fence=job.fence, released_at=now) for job in jobs]
    Release.objects.using(database()).bulk_create(rows)
    limit.used_at = now
    limit.save(using=database(), update_fields=["busy_until", "used", "used_at"])
    return len(jobs) == MAX_RELEASED


def _settle(limit: Limit, rate: Rate, now: datetime) -> int:
    """Pay for the released jobs that have begun. Return how many have not, and still may."""
    releases = list(Release.objects.using(database()).filter(limit=limit))
    if not releases:
        return 0
    rows = Job.objects.using(database()).filter(id__in=[release.job for release in releases])
    jobs = {job.id: job for job in rows.only("id", "fence", "state", "started_at")}
    begun: list[datetime] = []
    settled: list[Release] = []
    late: list[Job] = []
    for release in releases:
        job = jobs.get(release.job)
        if job is None or job.fence != release.fence:
            # A job that has begun and was deleted since, or is at a later attempt, has begun at the latest now.
            begun.append(min(as_utc(job.started_at), now) if job and job.started_at else now)
        elif job.state == Job.State.QUEUED:
            # One that a fast clock has released would stay counted until that time.
            if not now - MAX_WAIT <= release.released_at <= latest_possible(now):
                late.append(job)
            continue
        settled.append(release)
    held_again = set(HeldJobs.hold_again(late)) if late else set()
    settled += [release for release in releases if release.job in held_again]
    for moment in sorted(begun):
        tokens.pay(limit, rate, to_microseconds(moment))
    Release.objects.using(database()).filter(id__in=[release.id for release in settled]).delete()
    return len(releases) - len(settled)
