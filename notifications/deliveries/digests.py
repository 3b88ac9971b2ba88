"""Digests: what is still open at the end of an hour, a day or a week goes in one e-mail.

A digest is unique by user and end of its window, in the database. Windows of several lengths that end together are one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from django.conf import settings as django_settings
from django.core.mail import EmailMultiAlternatives
from django.urls import reverse

from notifications.db.clock import database_now
from notifications.db.locks import lock_query
from notifications.db.transactions import database, retrying_atomic
from notifications.deliveries.attempts import OpenDelivery, Opened
from notifications.deliveries.emails import absolute, make_email
from notifications.models import Delivery, Digest, Job, Notification, Reader
from notifications.states import ACTIVE
from notifications.streams.categories import Choice, load_categories


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


def zone_of(reader: Reader) -> ZoneInfo:
    """Return the time zone of a reader, that of the site where none is chosen, or it does not exist any more."""
    for name in (reader.time_zone, django_settings.TIME_ZONE):
        try:
            return ZoneInfo(name)
        except (KeyError, OSError, ValueError):  # none, or one that does not exist
            continue
    return ZoneInfo("UTC")


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
    jobs = []
    active = Job.objects.using(database()).filter(state__in=ACTIVE)
    for digest, job, ids in sorted(prepared, key=lambda each: (str(each.digest.user_id), each.digest.due_at)):
        same = Digest.objects.using(database()).filter(user=digest.user_id, due_at=digest.due_at)
        found = lock_query(same, skip_locked=False).first()
        if found and not found.is_closed and active.filter(id=found.job).exists():
            digest = found
        elif digest.due_at <= database_now():  # ended since: the next look takes the next window
            continue
        else:
            if found is None:
                digest.save(using=database(), force_insert=True)
            else:  # its job was run early, or cancelled: what comes afterwards has another one for the same time
                same.update(job=job.id, is_closed=False)
            jobs.append(job)
        rows = Delivery.objects.using(database()).filter(id__in=ids, state=Delivery.State.PENDING)
        rows.update(state=Delivery.State.QUEUED, job=digest.job)
    return jobs


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
    return {"title": row.title, "body": row.body, "link": absolute(row.url or reverse("notifications:inbox"))}
