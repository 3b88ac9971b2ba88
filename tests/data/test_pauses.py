"""SQLite's lock is unfair: whoever writes much holds it for 100 rows, and then leaves it as long as it was held."""

import time
from functools import partial
from itertools import pairwise

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from notifications import streams
from notifications.db import transactions
from notifications.models import Job, Notification, Stream
from notifications.streams import inbox, purging, retention
from tests.data.rows import job, unnumbered

pytestmark = pytest.mark.database_law

#: More than two chunks.
MANY = 250


@pytest.fixture
def pauses(monkeypatch):
    """pauses(count) begins to note, at each pause, how many rows count() finds, and whether the lock was held."""
    sleep = time.sleep

    def begin(count):
        noted = [count()]

        def pause(seconds):
            assert not connection.in_atomic_block
            assert seconds >= transactions.MIN_LOCK_PAUSE_SECONDS
            noted.append(count())
            sleep(seconds)

        monkeypatch.setattr(transactions.time, "sleep", pause)
        return noted

    return begin


def test_paced(on_sqlite, pauses):
    """As long as the lock was held, at least 5 ms, and only if something follows."""
    began = []

    def hold(seconds, result):
        began.append(time.monotonic())
        while time.monotonic() < began[-1] + seconds:
            pass
        return result

    noted = pauses(lambda: time.monotonic() - began[-1] if began else 0)
    assert transactions.fair_atomic(partial(hold, 0, 0)) == 0
    assert len(noted) == 1
    assert transactions.fair_atomic(partial(hold, 0.05, 7)) == 7
    assert time.monotonic() - began[-1] >= 0.1
    assert transactions.fair_atomic(partial(hold, 0, 0), more_follows=True) == 0
    assert len(noted) == 3
    with transactions.transaction.atomic():
        transactions.fair_atomic(partial(hold, 0, 1))
    assert len(noted) == 3


def unread():
    return Notification.objects.filter(read_at=None).count()


def read_in_the_page(user):
    client = Client()
    client.force_login(user)
    assert client.post(reverse("notifications:inbox-read"), {"up_to": "9999"}).status_code == 303


def waiting():
    return Notification.objects.filter(seq=None).count()


def everything():
    return Notification.objects.count() + Job.objects.count()


def number_streams(user):
    for other in range(user.pk + 1, user.pk + MANY):
        unnumbered(other, 1)
    streams.number(range(user.pk + 1, user.pk + MANY))


def prune(user):
    Notification.objects.update(archived_at="2026-01-01T00:00:00Z")
    Job.objects.update(finished_at="2026-01-01T00:00:00Z")
    retention.prune(timezone.now())


WAYS = {
    "marking": (lambda user: inbox.mark(user.pk, "read", 9999), unread),
    "marking in the page": (read_in_the_page, unread),
    "numbering": (lambda user: [unnumbered(user.pk, MANY), streams.number([user.pk])], waiting),
    "numbering many users": (number_streams, waiting),
    "leftovers": (lambda user: [unnumbered(user.pk, MANY), streams.number_pending()], waiting),
    "purging": (lambda user: purging.purge(user.pk), everything),
    "pruning": (prune, everything),
    "notifying many": (lambda user: inbox.create_notifications(range(1, MANY), "Hello"), everything),
}


@pytest.mark.parametrize("name", WAYS)
def test_the_lock_is_left_to_others(on_sqlite, user, pauses, monkeypatch, name):
    """Between two pauses at most 100 rows are written, and after the last one too."""
    monkeypatch.setattr(inbox, "MAX_MARKED_ROWS", 150)
    way, count = WAYS[name]
    unnumbered(user.pk, MANY)
    streams.number([user.pk])
    for _ in range(3):
        job(user)
    noted = pauses(count)
    way(user)
    noted.append(count())
    if count is waiting:
        noted[0] = max(noted)
    steps = [abs(after - before) for before, after in pairwise(noted)]
    assert len(steps) > 2
    assert max(steps) <= 100, noted
    assert Stream.objects.filter(pk=user.pk).exists() == (name != "purging")


def test_all_that_is_marked_has_its_number(on_sqlite, user):
    """Chunk after chunk, and what the answer says is true of all."""
    unnumbered(user.pk, MANY)
    streams.number([user.pk])
    assert inbox.mark(user.pk, "read", 9999) is False
    assert not Notification.objects.filter(seq=None).exists()
    assert Stream.objects.get().unread == 0


def test_marking_says_whether_there_is_more(transactional_db, user, monkeypatch):
    """After as many as one call takes."""
    monkeypatch.setattr(inbox, "MAX_MARKED_ROWS", 150)
    unnumbered(user.pk, MANY)
    streams.number([user.pk])
    assert inbox.mark(user.pk, "read", 9999) is True
    assert unread() == MANY - 150
    assert inbox.mark(user.pk, "read", 9999) is False
    assert (unread(), waiting(), Stream.objects.get().unread) == (0, 0, 0)
