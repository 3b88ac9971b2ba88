"""Record the incidents of failed jobs. One process at a time does it for all.

A job that is retried is no failed job any more. So incidents are rows: what was recorded stays true.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import F
from django.db.models.functions import Greatest, Right

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
#: The same if its task has had no job for so long, neither a failed one nor one that succeeded.
UNUSED_SECONDS = 6 * 3600.0
#: Failed jobs that one transaction records at most, and how many such transactions one round makes.
MAX_FAILURES_READ, MAX_CHUNKS = 2_000, 10
#: How long ago jobs failed that the first round records, after the app was installed.
FIRST_PERIOD = timedelta(days=1)
#: Transactions commit in another order than that of the times that they store.
OVERLAP = timedelta(seconds=30)
#: How old the stored position may become while nothing fails, since a round that finds nothing writes nothing.
MAX_UNSTORED = timedelta(minutes=10)
#: Old incidents that are deleted in a round at most, and their users that one transaction deletes.
MAX_INCIDENTS_DELETED, MAX_USERS_DELETED = 100, 100
#: Open incidents that are checked in a round at most. The next round goes on after them.
MAX_OPEN_INCIDENTS = 200
#: Characters of the end of a traceback, in which the name of a host is searched.
MAX_END_LENGTH = 2_000
#: No host of an address that may go on with a part of its password: one that holds a slash or a space has its @ later.
_HOST = re.compile(
    r"""https?://(?:[^/\s]*@)?([\w.-]+)(?::\d+)?(?![\w.@%-]|:\S)(?!.*@)|host=['"]([\w.-]+)['"]""", re.ASCII
)


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
    since, last = state.failures_read_until, state.last_failure_read
    if since is None or since > times.latest_possible(now):
        since, last = now - FIRST_PERIOD, None
    if since < now - settings.RETENTION:
        since, last = now - settings.RETENTION, None
    for _ in range(MAX_CHUNKS):
        found = _read_failures(since, last, now)
        if len(found) < MAX_FAILURES_READ:
            if found or since < now - MAX_UNSTORED:
                _record(found, now - OVERLAP, None)
            _end_incidents(state.last_incident_checked, now)
            return
        since, last = found[-1].failed_at, found[-1].job
        _record(found, since, last)


def _end_incidents(after: str, now: datetime) -> None:
    """End those of the open incidents that are over: the next ones after a key, in the order of keys."""
    rows = Incident.objects.using(database()).filter(over_at__isnull=True)
    incidents = list(rows.filter(key__gt=after).order_by("key")[:MAX_OPEN_INCIDENTS])
    for incident in incidents:
        if _is_over(incident, now):
            unchanged = rows.filter(pk=incident.pk, failed_at=incident.failed_at)
            retrying_atomic(partial(unchanged.update, over_at=F("failed_at")))
    last = incidents[-1].key if len(incidents) == MAX_OPEN_INCIDENTS else ""
    if last != after:
        retrying_atomic(partial(AlertState.objects.using(database()).update, last_incident_checked=last))


def _read_failures(since: datetime, last: UUID | None, until: datetime) -> list[Failure]:
    """Return the first jobs that failed between two times, those at the first time only after one (``last``)."""
    by_index = dialect().by_index("notifications_job_failed")
    condition = "ended.job_id = failed.id AND ended.number = failed.attempt"
    join = dialect().join_by_index("notifications_attempt AS ended", condition, is_outer=True)
    finished_at = Job._meta.get_field("finished_at")
    bounds = [finished_at.get_db_prep_value(moment, connection()) for moment in (since, until)]
    follows = ""
    if last:
        follows = "AND (finished_at > %s OR id > %s) "
        bounds += [bounds[0], Job._meta.pk.get_db_prep_value(last, connection())]
    with connection().cursor() as cursor:
        cursor.execute(
            "SELECT failed.id, failed.attempt, failed.user_id, failed.finished_at, failed.task_path, "
            "coalesce(ended.exception_class_path, ''), coalesce(ended.location, '') FROM ("
            f"SELECT id, user_id, task_path, attempt, finished_at FROM notifications_job{by_index} WHERE "
            "state = 'failed' AND finished_at >= %s AND finished_at <= %s "
            f"{follows}ORDER BY finished_at, id LIMIT {MAX_FAILURES_READ}"
            f") AS failed {join} ORDER BY failed.finished_at, failed.id",
            bounds,
        )
        rows = cursor.fetchall()
    return [
        Failure(UUID(str(id)), attempt, user_from_db(user), read_moment(failed_at), *texts)  # type: ignore[arg-type]
        for id, attempt, user, failed_at, *texts in rows
    ]


def _is_over(incident: Incident, moment: datetime) -> bool:
    """Return whether no job has failed for some minutes before a moment, and another one of the task succeeded.

    Without any job of the task it is over after some hours.
    One that failed far ahead, while a clock was fast, would not be over until then.
    """
    if incident.failed_at > times.latest_possible(moment):
        return True
    quiet = moment - incident.failed_at
    if quiet < timedelta(seconds=CLEAR_SECONDS):
        return False
    # Jobs that succeeded in the minute of the last failure may have done so before it.
    if reading.Outcome.SUCCEEDED in _read_outcomes(incident.task_path, incident.failed_at, moment):
        return True
    unused = timedelta(seconds=UNUSED_SECONDS)
    # A job of the current minute may be the failure at this moment, with which another incident begins.
    before = moment - timedelta(minutes=1)
    return quiet >= unused and not _read_outcomes(incident.task_path, moment - unused, before)


def _read_outcomes(task: str, since: datetime, until: datetime) -> set[str]:
    """Return how jobs of a task ended from the minute after a time until another."""
    minute = PERIOD_SECONDS[Period.MINUTE]
    start = reading.first_start(since, minute) + minute
    sums = reading.read_sums(Period.MINUTE, start, until, ("task_path",), task=task)
    return {row.outcome for row in sums if row.count}


def _record(found: Sequence[Failure], until: datetime, last: UUID | None) -> None:
    """Store incidents, affected users, and until which time and job failures are recorded, in one transaction."""
    rows = Incident.objects.using(database()).filter(over_at__isnull=True)
    of_key = {row.key: row for row in rows.filter(key__in={failure.key for failure in found})}
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
            _add_users(incident, users[id(incident)])
        rows = AlertState.objects.using(database())
        position = {"failures_read_until": until, "last_failure_read": last}
        if not rows.filter(id=1).update(**position):
            rows.bulk_create([AlertState(**position)], ignore_conflicts=True)

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
    return (found[1] or found[2]).rstrip(".")[:253] if found else ""


def _add_users(incident: Incident, users: set[Any]) -> None:
    if not users:
        return
    rows = AffectedUser.objects.using(database())
    known = set(rows.filter(incident=incident.pk, user_id__in=users).values_list("user_id", flat=True))
    added = rows.bulk_create(
        AffectedUser(incident_id=incident.pk, user_id=user) for user in sorted(users - known)
    )
    if added:
        Incident.objects.using(database()).filter(pk=incident.pk).update(
            users=F("users") + len(added), last_user=Greatest(F("last_user"), max(row.pk for row in added))
        )


def delete_old_incidents(before: datetime) -> None:
    """Delete incidents whose last job failed before a time, each after the users whom it affects, in chunks."""
    rows = Incident.objects.using(database()).filter(failed_at__lt=before).order_by("failed_at")
    ids = list(rows.values_list("id", flat=True)[:MAX_INCIDENTS_DELETED])
    affected = AffectedUser.objects.using(database()).filter(incident__in=ids)
    for _ in range(MAX_CHUNKS if ids else 0):
        users = list(affected.values_list("id", flat=True)[:MAX_USERS_DELETED])
        if not users:
            retrying_atomic(rows.filter(id__in=ids).order_by().delete)
            return
        retrying_atomic(affected.filter(id__in=users).delete)
