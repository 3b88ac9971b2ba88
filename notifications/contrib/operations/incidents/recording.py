"""Record the incidents of failed jobs. One process at a time does it for all.

A job that is retried is no failed job any more. So incidents are rows: what was recorded stays true.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import F
from django.db.models.functions import Right

from notifications import times
from notifications.conf import settings
from notifications.contrib.operations.models import AffectedUser, AlertState, Incident
from notifications.contrib.operations.statistics import reading
from notifications.contrib.operations.statistics.roll_up import PERIOD_SECONDS, Period
from notifications.db import connection, database, dialect, retrying_atomic, user_from_db
from notifications.management import read_moment
from notifications.models import Attempt, Job

#: Seconds without a failure after which an incident is over, if a job of its task has succeeded since.
CLEAR_SECONDS = 300.0
#: Failed jobs that one transaction records at most, and how many such transactions one round makes.
MAX_FAILURES_READ, MAX_CHUNKS = 2_000, 10
#: How long ago jobs failed that the first round records, after the app was installed.
FIRST_PERIOD = timedelta(days=1)
#: Transactions commit in another order than that of the times that they store.
OVERLAP = timedelta(seconds=30)
#: Open incidents that are looked at in a round at most, the oldest.
MAX_OPEN_INCIDENTS = 200
#: Characters of the end of a traceback, in which the name of a host is searched.
MAX_END_LENGTH = 2_000
_HOST = re.compile(r"""https?://(?:[^/@\s]*@)?([\w.-]+)|host=['"]([\w.-]+)['"]""", re.ASCII)


class Failure(NamedTuple):
    """A failed job."""

    job: UUID
    attempt: int
    user: Any
    failed_at: datetime
    task_path: str
    exception: str
    location: str

    @property
    def key(self) -> str:
        return key_of(self.task_path, self.exception, self.location)


def key_of(task_path: str, exception: str, location: str) -> str:
    """Return the key of the incidents of an error."""
    text = "\0".join((task_path, exception, location))
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def record_failures(now: datetime) -> None:
    """Record the jobs that have failed since the last call, and end incidents that are over at a time.

    Raises ``django.db.Error``.
    """
    state = AlertState.read()
    since = state.failures_read_until
    if since is None or since > times.latest_possible(now):
        since = now - FIRST_PERIOD
    since = max(since, now - settings.RETENTION)
    for _ in range(MAX_CHUNKS):
        found = _read_failures(since, now)
        is_whole = len(found) < MAX_FAILURES_READ
        # More jobs than that have not failed at the same microsecond.
        since = max(since, now - OVERLAP if is_whole else found[-1].failed_at)
        _record(found, since)
        if is_whole:
            break
    for incident in _read_open():
        if _is_over(incident, now):
            rows = Incident.objects.using(database()).filter(pk=incident.pk, failed_at=incident.failed_at)
            retrying_atomic(partial(rows.update, over_at=F("failed_at")))


def _read_failures(since: datetime, until: datetime) -> list[Failure]:
    by_index = dialect().by_index("notifications_job_failed")
    condition = "ended.job_id = failed.id AND ended.number = failed.attempt"
    join = dialect().join_by_index("notifications_attempt AS ended", condition, is_outer=True)
    finished_at = Job._meta.get_field("finished_at")
    bounds = [finished_at.get_db_prep_value(moment, connection()) for moment in (since, until)]
    with connection().cursor() as cursor:
        cursor.execute(
            "SELECT failed.id, failed.attempt, failed.user_id, failed.finished_at, failed.task_path, "
            "coalesce(ended.exception_class_path, ''), coalesce(ended.location, '') FROM ("
            f"SELECT id, user_id, task_path, attempt, finished_at FROM notifications_job{by_index} WHERE "
            "state = 'failed' AND finished_at >= %s AND finished_at <= %s "
            f"ORDER BY finished_at LIMIT {MAX_FAILURES_READ}"
            f") AS failed {join} ORDER BY failed.finished_at",
            bounds,
        )
        rows = cursor.fetchall()
    return [
        Failure(UUID(str(id)), attempt, user_from_db(user), read_moment(failed_at), *texts)  # type: ignore[arg-type]
        for id, attempt, user, failed_at, *texts in rows
    ]


def _read_open(keys: Iterable[str] | None = None) -> list[Incident]:
    rows = Incident.objects.using(database()).filter(over_at__isnull=True)
    rows = rows if keys is None else rows.filter(key__in=keys)
    return list(rows.order_by("key")[: None if keys is not None else MAX_OPEN_INCIDENTS])


def _is_over(incident: Incident, moment: datetime) -> bool:
    """Return whether no job has failed for some minutes before a moment, and another one of the task succeeded.

    One that failed far ahead, while a clock was fast, would not be over until then.
    """
    if incident.failed_at > times.latest_possible(moment):
        return True
    if moment - incident.failed_at < timedelta(seconds=CLEAR_SECONDS):
        return False
    minute = PERIOD_SECONDS[Period.MINUTE]
    # Jobs that succeeded in the minute of the last failure may have done so before it.
    since = reading.first_start(incident.failed_at, minute) + minute
    sums = reading.read_sums(Period.MINUTE, since, moment, ("task_path",), task=incident.task_path)
    return any(row.count for row in sums if row.outcome == reading.Outcome.SUCCEEDED)


def _record(found: Sequence[Failure], until: datetime) -> None:
    """Store incidents, affected users, and the time until which failed jobs are recorded, in one transaction."""
    of_key = {incident.key: incident for incident in _read_open({failure.key for failure in found})}
    changed: dict[int, Incident] = {}
    users: dict[int, set[Any]] = defaultdict(set)
    for failure in found:
        incident = of_key.get(failure.key)
        if incident and _is_over(incident, failure.failed_at):
            incident.over_at = incident.failed_at
            changed[id(incident)], incident = incident, None
        if incident is None:
            incident = of_key[failure.key] = _begin(failure)
        changed[id(incident)] = incident
        incident.begun_at = min(incident.begun_at, failure.failed_at)
        incident.failed_at = max(incident.failed_at, failure.failed_at)
        if failure.user is not None:
            users[id(incident)].add(failure.user)

    def write() -> None:
        for incident in changed.values():
            _write(incident)
            _add_users(incident, users[id(incident)], until)
        rows = AlertState.objects.using(database())
        if not rows.filter(id=1).update(failures_read_until=until):
            rows.bulk_create([AlertState(failures_read_until=until)], ignore_conflicts=True)

    retrying_atomic(write)


def _write(incident: Incident) -> None:
    names = ("begun_at", "failed_at", "over_at")
    values = {name: getattr(incident, name) for name in names}
    if not incident.pk or not Incident.objects.using(database()).filter(pk=incident.pk).update(**values):
        incident.save(using=database(), force_insert=True)


def _begin(failure: Failure) -> Incident:
    return Incident(
        key=failure.key,
        task_path=failure.task_path,
        exception_class_path=failure.exception,
        location=failure.location,
        host=_find_host(failure),
        begun_at=failure.failed_at,
        failed_at=failure.failed_at,
    )


def _find_host(failure: Failure) -> str:
    """Return the host that the last line of the traceback of a job names, "" for none."""
    attempts = Attempt.objects.using(database()).filter(job=failure.job, number=failure.attempt)
    traceback = attempts.values_list(Right("traceback", MAX_END_LENGTH), flat=True).first() or ""
    found = _HOST.search(traceback.strip().rpartition("\n")[2])
    return (found[1] or found[2])[:253] if found else ""


def _add_users(incident: Incident, users: set[Any], moment: datetime) -> None:
    if not users:
        return
    rows = AffectedUser.objects.using(database())
    known = set(rows.filter(incident=incident.pk, user_id__in=users).values_list("user_id", flat=True))
    added = rows.bulk_create(
        AffectedUser(incident_id=incident.pk, user_id=user, recorded_at=moment)
        for user in sorted(users - known)
    )
    if added:
        Incident.objects.using(database()).filter(pk=incident.pk).update(
            users=F("users") + len(added), last_user=max(row.pk for row in added)
        )
