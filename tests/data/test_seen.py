"""Marking as seen while other connections number, mark and read: no count drifts, and no position is used twice."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from notifications import streams
from notifications.api import notify
from notifications.models import Notification, Stream
from notifications.streams import marking, rebuilding
from notifications.streams.marking_seen import mark_seen
from tests.data.rows import unnumbered
from tests.data.shapes import assert_consistent, position
from tests.support.checks import doctor

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]

WRITERS, STEPS = 6, 40


def test_concurrent_writers(users, assigned_seqs):
    """Threads notify, mark and see for two users; at the end all counts are those of the rows."""
    keys = users(2)

    def write(seed):
        chance = random.Random(seed)
        try:
            for _ in range(STEPS):
                user = chance.choice(keys)
                up_to = chance.randint(0, position(user)[0] + 2)
                action = chance.choice(["notify", "mark", "see", "see"])
                if action == "notify":
                    notify(keys, "note", key=chance.choice(["", "k"]))
                elif action == "mark":
                    marking.mark(user, chance.choice(["read", "unread", "archive", "unarchive"]), up_to)
                else:
                    mark_seen(user, up_to)
        finally:
            connections.close_all()

    seed = random.randrange(10**6)
    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(write, [f"{seed} {number}" for number in range(WRITERS)]))
    streams.number_pending()
    assert rebuilding.find_wrong_counts() == {}, seed
    assert_consistent(keys)
    for user in keys:
        seqs = assigned_seqs(user)
        assert seqs == list(range(1, position(user)[0] + 1)), seed


def test_two_at_once(open_connection, user, on_postgresql):
    """Of two calls that wait for the stream, the later one with a lower position changes nothing."""
    for title in ("one", "two", "three"):
        notify(user, title)
    holder, high, low = (open_connection() for _ in range(3))
    holder.begin()
    holder.do(lambda: list(Stream.objects.select_for_update().filter(pk=user.pk)))
    seeing_high = high.start(mark_seen, user.pk, 3)
    high.wait_until_blocked()
    seeing_low = low.start(mark_seen, user.pk, 2)
    low.wait_until_blocked()
    holder.commit()
    for call in (seeing_high, seeing_low):
        call.result(60)
    found = Stream.objects.get(pk=user.pk)
    # PostgreSQL may grant the lock to either first: one or two moves, but never back.
    assert (found.seen, found.unseen) == (3, 0)
    assert found.head in (4, 5)
    assert_consistent([user])


def test_notification_that_is_numbered_meanwhile_is_unseen(open_connection, user, on_postgresql):
    """A call that waits for numbering counts what it has numbered: its count is read after the lock."""
    notify(user, "shown")
    numbering, seeing = open_connection(), open_connection()

    def number_one_more():
        unnumbered(user.pk, 1)
        streams.number_in_transaction([user.pk])

    numbering.begin()
    numbering.do(number_one_more)
    call = seeing.start(mark_seen, user.pk, 1)
    seeing.wait_until_blocked()
    numbering.commit()
    call.result(60)
    found = Stream.objects.get(pk=user.pk)
    assert (found.head, found.unread, found.seen, found.unseen) == (3, 2, 1, 1)
    assert_consistent([user])


def test_row_that_is_read_meanwhile_is_counted_once(open_connection, user, on_postgresql):
    """A row above the position that another transaction marks as read leaves unseen when that one is numbered."""
    ids = [notify(user, title)[0] for title in ("one", "two")]
    reader = open_connection()
    reader.begin()
    reader.do(lambda: Notification.objects.filter(pk=ids[1]).update(read_at="2026-01-01T00:00:00Z", seq=None))
    mark_seen(user.pk, 1)
    assert Stream.objects.get(pk=user.pk).unseen == 1
    reader.commit()
    streams.number_pending()
    assert Stream.objects.get(pk=user.pk).unseen == 0
    assert_consistent([user])


def test_recount(user):
    """Wrong counts are found, and corrected to those of the rows."""
    for _ in range(3):
        notify(user, "note")
    mark_seen(user.pk, 1)
    for wrong in ({"unread": 7}, {"unseen": 7}, {"unread": 0, "unseen": 0}):
        Stream.objects.filter(user=user).update(**wrong)
        stored, expected = rebuilding.find_wrong_counts()[user.pk]
        assert stored._asdict() == {"unread": 3, "unseen": 2} | wrong
        assert expected == (3, 2)
        doctor(recount=True)
        assert rebuilding.find_wrong_counts() == {}
        assert_consistent([user])
