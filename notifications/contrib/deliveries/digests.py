"""Digests: what is still open at the end of an hour, a day or a week goes in one message of its channel.

A digest is a job whose queued key is its user, channel and end of its window: what comes until it begins joins it, and
what comes later has another one. Windows of several lengths that end together are one.

What quiet hours hold back goes in one message at their end, as does a digest whose window ends in them.

Users who have chosen none get no more than a few messages an hour either: what is due within ten minutes after another
one joins a message, whose window it extends. A ``Throttle`` has that window.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

from notifications.contrib.deliveries.categories import Choice
from notifications.contrib.deliveries.decisions import Facts, find_quiet_end
from notifications.contrib.deliveries.models import Delivery, Reader, Throttle
from notifications.contrib.deliveries.quiet_hours import zone_of
from notifications.db import (
    database,
    database_now,
    insert_rows,
    lock_query,
    retrying_atomic,
    update_rows_by_id,
)
from notifications.db.clock import is_in_force
from notifications.models import ACTIVE, Job

#: How far ahead a window ends at most: a week, another one of quiet hours, and a day in case a time zone changes its
#: offset meanwhile.
MAX_WINDOW = timedelta(days=15)
#: What is due so soon after another message joins a message. It is sent so long after the last one has joined it,
#: and at the latest ``MAX_THROTTLE`` after the first one.
THROTTLE, MAX_THROTTLE = timedelta(minutes=10), timedelta(hours=1)


class Prepared(NamedTuple):
    """The job of a digest that may exist already, and the ids of the deliveries that are to be in it."""

    job: Job
    ids: Sequence[UUID]


def window_end(choice: str, reader: Reader, after: datetime) -> datetime:
    """Return the next end of a window after a time, in UTC.

    An hour that clocks leave out is where the time zone puts it; one that they repeat ends a window once.
    """
    if choice == Choice.HOURLY:
        return after.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    local = after.astimezone(zone_of(reader))
    # Wall-clock arithmetic: eight o'clock of the next day, however long the night was.
    end = local.replace(hour=reader.digest_hour % 24, minute=0, second=0, microsecond=0, fold=0)
    if choice == Choice.WEEKLY:
        end += timedelta(days=(reader.digest_day - end.weekday()) % 7)
    while end.astimezone(UTC) <= after:
        end += timedelta(days=7 if choice == Choice.WEEKLY else 1)
    return end.astimezone(UTC)


def digest_end(facts: Facts, now: datetime) -> datetime:
    """Return when the message goes that a delivery is collected for, in UTC."""
    end = now
    if facts.choice != Choice.ON:
        # It was due already before: a digest whose window has ended in quiet hours goes at their end.
        end = window_end(facts.choice, facts.reader, min(facts.delivery.due_at, now))
        if end <= now and find_quiet_end(facts._replace(now=now)) is None:
            end = window_end(facts.choice, facts.reader, now)
    return find_quiet_end(facts._replace(now=max(end, now))) or end


def prepare(members: Sequence[Facts], make_job: Callable[[Any, datetime, str], Job]) -> list[Prepared]:
    """Return the digests for deliveries: of each user, channel and end of a window one.

    Before the transaction of ``insert``.
    """
    now = database_now()
    by_end: dict[tuple[Any, str, datetime], list[UUID]] = defaultdict(list)
    for facts in members:
        row = facts.delivery
        by_end[row.user_id, row.channel, digest_end(facts, now)].append(row.id)
    prepared = []
    for (user, channel, due_at), ids in by_end.items():
        # In hexadecimal: a key of a user may have characters that no key of a job has.
        key = sha256(f"{user} {channel} {due_at.isoformat()}".encode()).hexdigest()
        prepared.append(Prepared(make_job(user, due_at, key), ids))
    return prepared


def insert(prepared: Sequence[Prepared]) -> list[Job]:
    """Add deliveries to their digests, which are inserted unless they exist. Returns the jobs of new ones.

    Deliveries whose window has ended since ``prepare`` stay pending.

    Raises ``django.db.IntegrityError`` if another process inserts the same one at this moment.
    """
    keys = {each.job.idempotency_key for each in prepared}
    # A worker that claims one takes its key, which is waited for. The last condition is that of the index.
    rows = Job.objects.using(database()).filter(user=None, idempotency_key__in=keys, idempotency_key__gt="")
    rows = lock_query(rows.only("state", "idempotency_key").order_by("id"), skip_locked=False)
    found = {row.idempotency_key: row for row in rows}
    now = database_now()
    jobs, ended = [], []
    job_of: dict[UUID, UUID] = {}
    for job, ids in prepared:
        same = found.get(job.idempotency_key)
        if same and same.state == Job.State.QUEUED:
            job_of |= dict.fromkeys(ids, same.id)
        elif job.run_after > now:  # else it has ended since: the next look takes the next window
            ended += [same.id] if same else []  # it was cancelled
            jobs.append(job)
            job_of |= dict.fromkeys(ids, job.id)
    if ended:
        Job.objects.using(database()).filter(id__in=ended).update(idempotency_key="")
    pending = Delivery.objects.using(database()).filter(id__in=list(job_of), state=Delivery.State.PENDING)
    ids = list(lock_query(pending.order_by("id"), skip_locked=False).values_list("id", flat=True))
    queue_deliveries({id: job_of[id] for id in ids})
    return jobs


def throttle(
    deliveries: Sequence[Delivery],
    own_jobs: Mapping[UUID, Job],
    message_jobs: Mapping[Any, Job],
    *,
    is_required: bool,
    places: int,
) -> tuple[list[Job], list[UUID]]:
    """Queue deliveries by one channel, which this transaction has locked, each by itself or in a message.

    Returns the new jobs, and the deliveries (ids) without a place.

    ``own_jobs``
        The job of each delivery (id) that is sent by itself.
    ``message_jobs``
        The job of a new message for each user (key).
    ``is_required``
        Whether they are of required categories, whose messages have no others.
    ``places``
        How many may be sent by themselves.
    """
    if not deliveries:
        return [], []
    by_user: dict[Any, list[UUID]] = defaultdict(list)
    for delivery in deliveries:
        by_user[delivery.user_id].append(delivery.id)
    alias = database()
    throttles = _lock_throttles(deliveries[0].channel, by_user, is_required)
    gathering = [row.job for row in throttles if row.joined_since is not None]
    active = set(
        Job.objects.using(alias).filter(id__in=gathering, state__in=ACTIVE).values_list("id", flat=True)
    )
    now = database_now()
    jobs: list[Job] = []
    job_of: dict[UUID, UUID] = {}
    ends: dict[UUID, datetime] = {}
    waiting: list[UUID] = []
    for row in throttles:
        message = message_jobs[row.user_id]
        for id in by_user[row.user_id]:
            is_open = is_in_force(row.ends_at, now, MAX_THROTTLE)
            # The one that has opened it comes again if its channel rested meanwhile, or its user paused.
            if id == row.opened_by or (row.joined_since is None and not is_open):
                if not places:
                    waiting.append(id)
                    continue
                places -= 1
                if row.joined_since is None:
                    row.opened_by, row.ends_at = id, now + THROTTLE
                jobs.append(own_jobs[id])
                job_of[id] = own_jobs[id].id
                continue
            if row.joined_since is None or row.job not in {message.id, *active}:
                row.joined_since, row.job = now, message.id
                jobs.append(message)
            row.ends_at = min(now + THROTTLE, row.joined_since + MAX_THROTTLE)
            job_of[id] = row.job
        message.run_after = row.ends_at
        if row.job in active:
            ends[row.job] = row.ends_at
    _run_later(ends)
    columns = ("ends_at", "opened_by", "joined_since", "job")
    update_rows_by_id(
        Throttle, columns, {row.pk: [getattr(row, name) for name in columns] for row in throttles}
    )
    queue_deliveries(job_of)
    return jobs, waiting


def _lock_throttles(channel: str, users: Iterable[Any], is_required: bool) -> list[Throttle]:
    """Return the throttles of users (keys), which are inserted unless they exist."""
    kind = {"channel": channel, "is_required": is_required}
    rows = Throttle.objects.using(database()).filter(user__in=list(users), **kind)
    missing = set(users).difference(rows.values_list("user", flat=True))
    if missing:
        now = database_now()
        new = [Throttle(user_id=user, ends_at=now, **kind) for user in sorted(missing, key=str)]
        insert_rows(new, ignore_conflicts=True)  # another process may insert one now, which is waited for
    return list(lock_query(rows.order_by("user"), skip_locked=False))


def _run_later(moments: Mapping[UUID, datetime]) -> None:
    jobs = Job.objects.using(database()).filter(id__in=list(moments), state=Job.State.QUEUED)
    # A worker claims one that is locked: what joins is sent by it.
    found = lock_query(jobs.only("id").order_by("id"))
    rows = {job.id: (moments[job.id],) * 2 for job in found}
    update_rows_by_id(Job, ("run_after", "due_at"), rows, assignments=("version = version + 1",))


def queue_deliveries(jobs: Mapping[UUID, UUID]) -> None:
    """Give deliveries, which this transaction has locked, their jobs by their ids."""
    # bulk_update() in its place held SQLite's lock for eight times as long.
    rows = {id: (job,) for id, job in jobs.items()}
    update_rows_by_id(Delivery, ("job",), rows, assignments=(f"state = '{Delivery.State.QUEUED}'",))


def close(job: UUID) -> None:
    """Have nothing added to the message of a job any more. In its own transaction, before what is sent is read.

    What is due soon after a message that others have joined joins the next one.
    """
    alias = database()
    users = Delivery.objects.using(alias).filter(job=job, state=Delivery.State.QUEUED).values("user")[:1]

    def write() -> None:
        throttles = Throttle.objects.using(alias).filter(user__in=users, job=job)
        throttles.update(job=None, joined_since=None, ends_at=database_now() + THROTTLE)

    retrying_atomic(write)
