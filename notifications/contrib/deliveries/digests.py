"""Digests: what is still open at the end of an hour, a day or a week goes in one e-mail.

A digest is unique by user and end of its window, in the database. Windows of several lengths that end together are one.

Users who have chosen none get no more than a few e-mails an hour either: those that are due within ten minutes after
another one join a message, whose window they extend. An ``EmailThrottle`` has that window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings as django_settings
from django.core.mail import EmailMultiAlternatives
from django.db.models import Count, Max, Min
from django.urls import reverse
from django.utils import translation

from notifications import times
from notifications.contrib.deliveries.attempts import OpenDelivery, Opened
from notifications.contrib.deliveries.emails import build_email, describe_disc, make_email
from notifications.contrib.deliveries.models import Delivery, Digest, EmailThrottle, Reader
from notifications.contrib.deliveries.preferences import zone_of
from notifications.db import bulk
from notifications.db.adapters import adapter
from notifications.db.bulk import lock_query
from notifications.db.clock import database_now
from notifications.db.transactions import connection, database, retrying_atomic
from notifications.inbox.categories import ALERTS, Choice, load_categories
from notifications.inbox.lists import Group
from notifications.inbox.rows import describe_group
from notifications.models import Job, Notification
from notifications.paths import absolute
from notifications.states import ACTIVE

#: How far ahead a window ends at most: a week, and a day in case a time zone changes its offset meanwhile.
MAX_WINDOW = timedelta(days=8)
#: An e-mail that is due so soon after another one joins a message. It is sent so long after the last one has joined it,
#: and at the latest ``MAX_THROTTLE`` after the first one.
THROTTLE, MAX_THROTTLE = timedelta(minutes=10), timedelta(hours=1)


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


def is_throttled(delivery: Delivery, row: Notification | None) -> bool:
    """Return whether a delivery joins a message if it is due soon after another one.

    A question waits for its answer, an alert for an operator, and the steps of one call are what the project wants. One
    that may have been sent is sent again in the same e-mail, which programs recognize.
    """
    return (
        row is not None
        and delivery.channel == Delivery.Channel.EMAIL
        and not delivery.is_explicit
        and delivery.attempted_at is None
        and row.open_question is None
        and row.category != ALERTS
        and not load_categories().get(row.category).is_required
    )


def throttle(
    deliveries: Sequence[Delivery], own_jobs: Mapping[UUID, Job], message_jobs: Mapping[Any, Job]
) -> list[Job]:
    """Queue deliveries, which this transaction has locked, each by itself or in a message. Returns the new jobs.

    ``own_jobs``
        The job of each delivery (id) that is sent by itself.
    ``message_jobs``
        The job of a new message for each user (key).
    """
    if not deliveries:
        return []
    by_user: dict[Any, list[UUID]] = {}
    for delivery in deliveries:
        by_user.setdefault(delivery.user_id, []).append(delivery.id)
    alias = database()
    throttles = _lock_throttles(by_user)
    gathering = [row.job for row in throttles if row.joined_since is not None]
    active = set(
        Job.objects.using(alias).filter(id__in=gathering, state__in=ACTIVE).values_list("id", flat=True)
    )
    now = database_now()
    jobs: list[Job] = []
    job_of: dict[UUID, UUID] = {}
    ends: dict[UUID, datetime] = {}
    for row in throttles:
        message = message_jobs[row.user_id]
        for id in by_user[row.user_id]:
            # A window that is longer than one can be was stored while a clock was fast.
            is_open = now < row.ends_at <= times.latest_possible(now, MAX_THROTTLE)
            # The one that has opened it comes again if its channel rested meanwhile, or its user paused.
            if id == row.opened_by or (row.joined_since is None and not is_open):
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
    rows = bulk.column_values(EmailThrottle, (*columns, "user_id"), throttles)
    bulk.update(EmailThrottle, columns, ("user_id",), rows)
    queue_deliveries(job_of)
    return jobs


def _lock_throttles(users: Iterable[Any]) -> list[EmailThrottle]:
    """Return the throttles of users (keys), which are inserted unless they exist."""
    rows = EmailThrottle.objects.using(database()).filter(user__in=list(users))
    missing = set(users).difference(rows.values_list("user", flat=True))
    if missing:
        now = database_now()
        new = [EmailThrottle(user_id=user, ends_at=now) for user in sorted(missing, key=str)]
        bulk.insert(new, ignore_conflicts=True)  # another process may insert one now, which is waited for
    return list(lock_query(rows.order_by("user"), skip_locked=False))


def _run_later(moments: Mapping[UUID, datetime]) -> None:
    jobs = Job.objects.using(database()).filter(id__in=list(moments), state=Job.State.QUEUED)
    # A worker claims one that is locked: what joins is sent by it.
    found = list(lock_query(jobs.only("id").order_by("id")))
    for job in found:
        job.run_after = moments[job.id]
    rows = bulk.column_values(Job, ("run_after", "id"), found)
    bulk.update(Job, ("run_after",), ("id",), rows, assignments=("version = version + 1",))


def queue_deliveries(jobs: Mapping[UUID, UUID]) -> None:
    """Give deliveries, which this transaction has locked, their jobs by their ids."""
    # bulk_update() in its place held SQLite's lock for eight times as long.
    convert = adapter(Delivery._meta.pk, connection()) or (lambda id: id)
    rows = [(convert(job), convert(id)) for id, job in jobs.items()]
    bulk.update(Delivery, ("job",), ("id",), rows, assignments=(f"state = '{Delivery.State.QUEUED}'",))


def close(job: UUID) -> None:
    """Have nothing added to the digest of a job any more. In its own transaction, before what is sent is read.

    E-mails that are due soon after a message that others have joined join the next one.
    """
    alias = database()
    users = Delivery.objects.using(alias).filter(job=job, state=Delivery.State.QUEUED).values("user")[:1]

    def write() -> None:
        Digest.objects.using(alias).filter(job=job).update(is_closed=True)
        throttles = EmailThrottle.objects.using(alias).filter(user__in=users, job=job)
        throttles.update(job=None, joined_since=None, ends_at=database_now() + THROTTLE)

    retrying_atomic(write)


def build_digest(
    job: UUID, opened: Opened, user: Any, *, is_throttled: bool = False
) -> EmailMultiAlternatives:
    """Return the e-mail of a digest's job, its notifications by category, the newest first. Renders templates.

    Those of a group are one row, as in the inbox. With ``is_throttled`` its user has not chosen to get them together:
    a single one is sent as an e-mail of its own.
    """
    newest = opened.newest[-1]
    if is_throttled and len(opened.ids) == 1:
        return build_email(newest.delivery, newest.notification, user, id=job)
    categories = load_categories()

    def place(each: OpenDelivery) -> tuple[bool, str]:  # those without a category come last
        return not each.notification.category, each.notification.category

    of_job = Delivery.objects.using(database()).filter(job=job, state=Delivery.State.QUEUED)
    sent = Notification.objects.using(database()).filter(id__in=of_job.values("notification"))
    found = _count_groups(sent)
    # Each group is where its newest notification is.
    shown_groups: dict[str | None, None] = {}
    shown = []
    for each in reversed(opened.newest):
        key = each.notification.group_key
        if key not in found or key not in shown_groups:
            shown.append(each)
        shown_groups[key] = None
    with translation.override(newest.delivery.language or django_settings.LANGUAGE_CODE):
        jobs = _read_jobs(each.notification for each in shown)
        groups = [
            (
                categories.get(category).name,
                [_row(each.notification, found.get(each.notification.group_key), jobs) for each in group],
            )
            for (_, category), group in groupby(sorted(shown, key=place), place)
        ]
    count = len(opened.ids)
    counted = [
        found[each.notification.group_key].total if each.notification.group_key in found else 1
        for each in shown
    ]
    return make_email(
        "digest",
        newest.delivery,
        user,
        id=job,
        categories=list(sent.order_by().values_list("category", flat=True).distinct())
        if is_throttled
        else None,
        context={
            "groups": groups,
            "count": count,
            "hidden": max(0, count - sum(counted)),
            "is_throttled": is_throttled,
        },
    )


def _count_groups(rows: Any) -> dict[str | None, Group]:
    """Return those groups of notifications that are shown as one row, by their keys."""
    groups: dict[str | None, Group] = {}
    counts = rows.exclude(group_key=None).order_by().values_list("group_key", "level")
    for key, level, count, first, last in counts.annotate(Count("id"), Min("title"), Max("title")):
        group = groups.setdefault(key, Group(key=key))
        group.counts[level] = count
        group.total += count
        group.titles |= {first, last}
    return {key: group for key, group in groups.items() if group.is_one_row}


def _read_jobs(rows: Iterable[Notification]) -> dict[UUID, Job]:
    """Return the jobs after which groups of these notifications may be called."""
    found = {row.job: row.user_id for row in rows if row.job and row.group_key}
    jobs = Job.objects.using(database()).filter(id__in=list(found)).only("id", "user", "title", "task_path")
    return {job.id: job for job in jobs if job.user_id == found[job.id]}


def _row(row: Notification, group: Group | None, jobs: Mapping[UUID, Job]) -> dict[str, Any]:
    if group is not None:
        texts = describe_group(group, row, jobs.get(row.job) if row.job else None)
        return {
            "title": texts.title,
            "body": texts.body,
            "link": absolute(f"{reverse('notifications:inbox')}?{urlencode({'group': group.key})}"),
            "created_at": row.raised_at,
            "disc": describe_disc(Notification(level=texts.level)),
        }
    return {
        "title": row.title,
        "body": row.body,
        "link": absolute(row.url or reverse("notifications:inbox")),
        "created_at": row.raised_at,
        "disc": describe_disc(row),
    }
