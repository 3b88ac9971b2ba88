"""Digests: what is still open at the end of an hour, a day or a week goes in one e-mail.

A digest is unique by user and end of its window, in the database. Windows of several lengths that end together are one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

from django.core.mail import EmailMultiAlternatives
from django.urls import reverse

from notifications.db import bulk
from notifications.db.adapters import adapter
from notifications.db.clock import database_now
from notifications.db.locks import lock_query
from notifications.db.transactions import connection, database, retrying_atomic
from notifications.deliveries.attempts import OpenDelivery, Opened
from notifications.deliveries.emails import absolute, describe_disc, make_email
from notifications.models import Delivery, Digest, Job, Notification, Reader
from notifications.states import ACTIVE
from notifications.streams.categories import Choice, load_categories
from notifications.streams.preferences import zone_of

#: How far ahead a window ends at most: a week, and a day in case a time zone changes its offset meanwhile.
MAX_WINDOW = timedelta(days=8)


class Member(NamedTuple):
    """A delivery that is due, and by what its user has chosen a digest."""

    delivery: Delivery
    choice: str
    reader: Reader


class Prepared(NamedTuple):
    """A digest that may exist already, the job for a new one, and the ids of the deliveries that are to be in it."""

    digest: Digest
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


def prepare(members: Sequence[Member], make_job: Callable[[Digest], Job]) -> list[Prepared]:
    """Return the digests for deliveries: of each user and end of a window one. Before the transaction of ``insert``."""
    now = database_now()
    by_end: dict[tuple[Any, datetime], list[UUID]] = {}
    for delivery, choice, reader in members:
        end = window_end(choice, reader, now)
        key = delivery.user_id, end
        by_end.setdefault(key, []).append(delivery.id)
    prepared = []
    for (user, due_at), ids in by_end.items():
        digest = Digest(user_id=user, due_at=due_at)
        job = make_job(digest)
        digest.job = job.id
        prepared.append(Prepared(digest, job, ids))
    return prepared


def insert(prepared: Sequence[Prepared]) -> list[Job]:
    """Add deliveries to their digests, which are inserted unless they exist. Returns the jobs of new ones.

    Deliveries whose window has ended since ``prepare`` stay pending.

    Raises ``django.db.IntegrityError`` if another process inserts the same one at this moment.
    """
    users = {each.digest.user_id for each in prepared}
    ends = {each.digest.due_at for each in prepared}
    rows = Digest.objects.using(database()).filter(user__in=users, due_at__in=ends).order_by("id")
    found = {(row.user_id, row.due_at): row for row in lock_query(rows, skip_locked=False)}
    open_jobs = [row.job for row in found.values() if not row.is_closed]
    active = set(
        Job.objects.using(database()).filter(id__in=open_jobs, state__in=ACTIVE).values_list("id", flat=True)
    )
    now = database_now()
    new, reopened, jobs = [], [], []
    job_of: dict[UUID, UUID] = {}
    for digest, job, ids in prepared:
        same = found.get((digest.user_id, digest.due_at))
        if same and not same.is_closed and same.job in active:
            digest = same
        elif digest.due_at <= now:  # ended since: the next look takes the next window
            continue
        else:
            jobs.append(job)
            if same is None:
                new.append(digest)
            else:  # its job was run early, or cancelled: what comes afterwards has another one for the same time
                reopened.append((same.id, job.id))
                digest = same
                digest.job = job.id
        job_of |= dict.fromkeys(ids, digest.job)
    bulk.insert(sorted(new, key=lambda digest: (str(digest.user_id), digest.due_at)))
    for id, job_id in reopened:
        Digest.objects.using(database()).filter(id=id).update(job=job_id, is_closed=False)
    pending = Delivery.objects.using(database()).filter(id__in=list(job_of), state=Delivery.State.PENDING)
    ids = list(lock_query(pending.order_by("id"), skip_locked=False).values_list("id", flat=True))
    queue_deliveries({id: job_of[id] for id in ids})
    return jobs


def queue_deliveries(jobs: Mapping[UUID, UUID]) -> None:
    """Give deliveries, which this transaction has locked, their jobs by their ids."""
    # bulk_update() in its place held SQLite's lock for eight times as long.
    convert = adapter(Delivery._meta.pk, connection()) or (lambda id: id)
    rows = [(convert(job), convert(id)) for id, job in jobs.items()]
    bulk.update(Delivery, ("job",), ("id",), rows, assignments=(f"state = '{Delivery.State.QUEUED}'",))


def close(job: UUID) -> None:
    """Have nothing added to the digest of a job any more. In its own transaction, before what is sent is read."""
    rows = Digest.objects.using(database()).filter(job=job)
    retrying_atomic(lambda: rows.update(is_closed=True))


def build_digest(job: UUID, opened: Opened, user: Any) -> EmailMultiAlternatives:
    """Return the e-mail of a digest's job, its notifications by category, the newest first. Renders templates."""
    categories = load_categories()

    def place(each: OpenDelivery) -> tuple[bool, str]:  # those without a category come last
        return not each.notification.category, each.notification.category

    newest_first = list(reversed(opened.newest))
    shown = sorted(newest_first, key=place)
    groups = [
        (categories.get(category).name, [_row(each.notification) for each in group])
        for (_, category), group in groupby(shown, place)
    ]
    count = len(opened.ids)
    return make_email(
        "digest",
        opened.newest[-1].delivery,
        user,
        id=job,
        category=None,
        context={"groups": groups, "count": count, "hidden": count - len(shown)},
    )


def _row(row: Notification) -> dict[str, Any]:
    return {
        "title": row.title,
        "body": row.body,
        "link": absolute(row.url or reverse("notifications:inbox")),
        "created_at": row.raised_at,
        "disc": describe_disc(row),
    }
