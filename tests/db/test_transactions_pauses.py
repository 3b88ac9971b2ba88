"""Pauses between bulk writes on SQLite: its lock is unfair, so it is released for as long as it was held.

A transaction writes at most 100 rows.
"""

import threading
import time
from functools import partial
from itertools import pairwise
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from notifications import streams
from notifications.api import notify
from notifications.contrib.broadcasts import starting
from notifications.contrib.broadcasts.models import Broadcast
from notifications.db import fair_atomic, retrying_atomic, transactions
from notifications.jobs import cancel, retry
from notifications.models import Job, Notification, Stream
from notifications.streams import marking
from notifications.testing import run_jobs
from tests.data.conftest import on_sqlite  # noqa: F401 (a fixture)
from tests.data.rows import job, unnumbered
from tests.jobs import tasks
from tests.support.duties import run_duty

pytestmark = pytest.mark.database_law

#: Rows to write: more than two chunks.
MANY = 250


@pytest.fixture
def pauses(monkeypatch):
    """pauses(count) returns a list to which each pause between bulk writes appends count(), at its start and its end.

    A bulk write that begins before the pause is over fails the test.
    """

    def record(count):
        counts, ended = [count()], []

        def record_and_begin(work, **options):
            if not connection.in_atomic_block:
                now = time.monotonic()
                assert now >= transactions.lock_time.free_until
                if ended and now - ended[-1][0] >= transactions.MIN_LOCK_PAUSE_SECONDS:
                    counts.extend((ended[-1][1], count()))
            result = retrying_atomic(work, **options)
            ended.append((transactions.lock_time.until, count()))
            return result

        monkeypatch.setattr(transactions, "retrying_atomic", record_and_begin)
        return counts

    return record


def test_pause_lasts_as_long_as_the_lock_was_held(on_sqlite, monkeypatch):  # noqa: F811
    """fair_atomic() pauses for as long as the lock was held, if more work follows, and not inside a transaction.

    It does so at its next call, of which the caller prepares the rows meanwhile.
    """
    monkeypatch.setattr(transactions, "MAX_PAUSE_SECONDS", 100.0)
    lock_time, starts, slept, sleep = transactions.lock_time, [], [], time.sleep

    def record(seconds):
        slept.append(threading.get_ident())
        sleep(seconds)

    def hold_lock(seconds, result):
        starts.append(time.monotonic())
        while time.monotonic() < starts[-1] + seconds:
            pass
        return result

    before = lock_time.free_until
    assert fair_atomic(partial(hold_lock, 0, 0)) == 0
    assert lock_time.free_until == before
    monkeypatch.setattr(time, "sleep", record)
    assert fair_atomic(partial(hold_lock, 1, 7)) == 7
    assert threading.get_ident() not in slept
    before = lock_time.seconds
    assert fair_atomic(partial(hold_lock, 0, 0), more_follows=True) == 0
    assert starts[-1] - starts[-2] >= 2
    prepared, held = lock_time.free_until, lock_time.seconds - before
    assert prepared - lock_time.until == pytest.approx(max(transactions.MIN_LOCK_PAUSE_SECONDS, held))
    with transaction.atomic():
        fair_atomic(partial(hold_lock, 0, 1))
    assert lock_time.free_until == prepared


def count_unread():
    return Notification.objects.filter(read_at=None).count()


def mark_in_the_page(user):
    client = Client()
    client.force_login(user)
    assert (
        client.post(reverse("notifications:inbox-mark"), {"up_to": "9999", "all": "read"}).status_code == 303
    )


def count_unnumbered():
    return Notification.objects.filter(seq=None).count()


def count_rows():
    return Notification.objects.count() + Job.objects.count()


def number_streams(user):
    for other_user in range(user.pk + 1, user.pk + MANY):
        unnumbered(other_user, 1)
    streams.number(range(user.pk + 1, user.pk + MANY))


def prune(user):
    Notification.objects.update(archived_at="2026-01-01T00:00:00Z")
    Job.objects.update(finished_at="2026-01-01T00:00:00Z")
    call_command("notifications", "prune", days=0)


def send_broadcast(user):
    """Send one to ``MANY`` users, whose job the user owns."""
    Job.objects.all().delete()  # their tasks do not exist
    users = type(user).objects
    users.filter(pk=user.pk).update(is_superuser=True, is_staff=True)
    users.bulk_create([type(user)(username=f"user{number}") for number in range(MANY)])
    row = Broadcast(
        sender_id=user.pk,
        title="Hello",
        level="info",
        audience_kind="everybody",
        recipients=MANY,
        created_at=timezone.now(),
    )
    assert starting.begin_sending(row, url="/")
    run_jobs(raise_errors=True)


def withdraw_broadcast(user):
    assert starting.begin_withdrawal(Broadcast.objects.get().pk, by=user, url="/")
    run_jobs(raise_errors=True)


def cancel_and_retry(user):
    """Cancel ``MANY`` jobs that nothing has claimed, which are numbered as they are written, and retry them."""
    ids = [tasks.noop.enqueue().id for _ in range(MANY)]
    Job.objects.filter(id__in=ids).update(user_id=user.pk)
    cancel(map(UUID, ids), by=None)
    retry(map(UUID, ids))


def count_cancelled():
    return Job.objects.filter(state="cancelled").count()


def count_archived():
    return Notification.objects.exclude(archived_at=None).count()


WRITES = {
    "marking": (lambda user: marking.mark(user.pk, "read", 9999), count_unread),
    "marking in the page": (mark_in_the_page, count_unread),
    "numbering": (lambda user: [unnumbered(user.pk, MANY), streams.number([user.pk])], count_unnumbered),
    "numbering many users": (number_streams, count_unnumbered),
    "leftovers": (
        lambda user: [unnumbered(user.pk, MANY), run_duty("number pending changes")],
        count_unnumbered,
    ),
    "purging": (lambda user: user.delete(), count_rows),
    "pruning": (prune, count_rows),
    "sending a broadcast": (send_broadcast, Notification.objects.count),
    "withdrawing a broadcast": (
        lambda user: [send_broadcast(user), withdraw_broadcast(user)],
        lambda: Notification.objects.count() + count_archived(),
    ),
    "cancelling and retrying": (cancel_and_retry, count_cancelled),
    "notifying many": (lambda user: notify(range(1, MANY), "Hello"), count_rows),
}


@pytest.mark.parametrize("name", WRITES)
def test_bulk_writes_release_the_lock(on_sqlite, user, pauses, name, set_marking):  # noqa: F811
    """At most 100 rows are written between two pauses, and after the last one."""
    set_marking(MAX_MARKED_ROWS=150)
    write, count = WRITES[name]
    unnumbered(user.pk, MANY)
    streams.number([user.pk])
    for _ in range(3):
        job(user)
    counts = pauses(count)
    write(user)
    counts.append(count())
    if count is count_unnumbered:
        counts[0] = max(counts)
    steps = [abs(after - before) for before, after in pairwise(counts)]
    assert len(steps) > 2
    assert max(steps) <= 100, counts
    assert Stream.objects.filter(pk=user.pk).exists() == (name != "purging")


def test_mark_returns_whether_rows_remain(transactional_db, user, set_marking):
    """mark() returns where to continue after MAX_MARKED_ROWS rows if more remain; those it has changed are numbered."""
    half = MANY // 2
    set_marking(MAX_MARKED_ROWS=half)
    unnumbered(user.pk, MANY)
    streams.number([user.pk])
    assert marking.mark(user.pk, "read", 9999).next == half
    assert count_unread() == MANY - half
    assert marking.mark(user.pk, "read", 9999).next is None
    assert (count_unread(), count_unnumbered(), Stream.objects.get().unread) == (0, 0, 0)
