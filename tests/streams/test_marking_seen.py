"""Marking notifications as seen: the position never falls, and unseen counts the unread above it."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from notifications import streams
from notifications.api import notify
from notifications.models import Notification, Stream
from notifications.signals import rung
from notifications.streams import build_notification, changes, marking, rebuilding
from notifications.streams.marking_seen import mark_seen
from tests.data.rows import finish_job, job, unnumbered
from tests.data.shapes import assert_consistent

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


def counts(user):
    """Return the head, unread, seen and unseen of a user's stream."""
    found = Stream.objects.filter(pk=user.pk).values_list("head", "unread", "seen", "unseen")
    return found.first() or (0, 0, 0, 0)


def test_unseen_are_the_unread_above_seen(user):
    """A move of seen advances the head by one; later notifications are unseen again."""
    for title in ("one", "two", "three"):
        notify(user, title)
    assert counts(user) == (3, 3, 0, 3)
    mark_seen(user.pk, 2)
    assert counts(user) == (4, 3, 2, 1)
    mark_seen(user.pk, 4)
    assert counts(user) == (5, 3, 4, 0)
    notify(user, "four")
    assert counts(user) == (6, 4, 4, 1)
    assert_consistent([user])


def test_seen_never_falls(user):
    """The same position again, or a lower one, changes nothing: the head stays, no stream is locked, nothing rings."""
    notify(user, "one")
    notify(user, "two")
    mark_seen(user.pk, 2)
    rings = []

    def record_ring(users, **kwargs):
        rings.append(users)

    rung.connect(record_ring)
    try:
        with CaptureQueriesContext(connection) as queries:
            for position in (2, 1, 0):
                mark_seen(user.pk, position)
    finally:
        rung.disconnect(record_ring)
    assert counts(user) == (3, 2, 2, 0)
    assert rings == []
    assert [query["sql"].split()[0] for query in queries.captured_queries] == ["SELECT"] * 3


def test_seen_is_at_most_the_head(user):
    """A position above the head is the head: what is raised later is unseen."""
    notify(user, "one")
    mark_seen(user.pk, 99)
    assert counts(user) == (2, 1, 1, 0)
    notify(user, "two")
    assert counts(user) == (3, 2, 1, 1)


def test_user_without_a_stream(user):
    """Nothing was raised, so nothing moves."""
    mark_seen(user.pk, 5)
    assert counts(user)[0] == 0


def test_reading_and_archiving_what_is_unseen(user):
    """Only what was raised above seen leaves and enters unseen, when it is marked."""
    ids = [notify(user, title)[0] for title in ("seen", "unseen")]
    mark_seen(user.pk, 1)
    unseen = []
    for verb in ("read", "unread", "archive", "unarchive"):
        for id in ids:
            marking.mark(user.pk, verb, 2, [id])
            unseen.append(counts(user)[3])
            assert_consistent([user])
    assert unseen == [1, 0, 0, 1, 1, 0, 0, 1]


def test_newer_notification_with_the_same_key(user):
    """It is unseen in place of the one that it archives, whether that was seen or not."""
    notify(user, "first", key="k")
    notify(user, "second", key="k")
    assert counts(user)[1::2] == (1, 1)
    mark_seen(user.pk, 99)
    notify(user, "third", key="k")
    assert counts(user)[1::2] == (1, 1)
    unnumbered(user.pk, 3, key="k")  # replaced by each other in one pass
    streams.number([user.pk])
    assert counts(user)[1::2] == (1, 1)
    assert_consistent([user])


def test_notification_of_a_job_is_unseen(user):
    """It is numbered in the transaction that records the outcome, without a pass of numbering."""
    notify(user, "before")
    mark_seen(user.pk, 1)
    finish_job(job(user), job(None).pk)
    assert counts(user)[1::2] == (2, 1)
    assert_consistent([user])


def test_notification_that_is_numbered_again_after_a_rollback(user):
    """A transaction that the database has refused is tried again with the same rows: they are counted then."""
    row = build_notification(user.pk, "note")
    with transaction.atomic():
        assert streams.number_new([row])
        transaction.set_rollback(True)
    with transaction.atomic():
        assert streams.number_new([row])
        row.save(force_insert=True)
    assert counts(user) == (1, 1, 0, 1)
    assert_consistent([user])


def test_rows_without_a_number(user):
    """A row that was read and is not numbered yet is still counted, until it is numbered."""
    (first,) = notify(user, "first")
    notify(user, "second")
    notify(user, "third")
    mark_seen(user.pk, 1)
    Notification.objects.filter(title="third").update(read_at="2026-01-01T00:00:00Z", seq=None)
    unnumbered(user.pk, 1)
    mark_seen(user.pk, 2)
    assert counts(user) == (5, 3, 2, 1)
    assert rebuilding.find_wrong_counts() == {}
    streams.number_pending()
    assert counts(user)[1::2] == (3, 1)
    Notification.objects.filter(pk=first).update(read_at="2026-01-01T00:00:00Z", seq=None)
    streams.number_pending()
    assert counts(user)[1::2] == (2, 1)
    assert_consistent([user])


def test_inside_a_transaction_of_the_project(user):
    """It is deferred until after the commit, so that a project's transaction holds no stream."""
    notify(user, "one")
    with transaction.atomic():
        mark_seen(user.pk, 1)
        assert counts(user) == (1, 1, 0, 1)
    assert counts(user) == (2, 1, 1, 0)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        notify(user, "two")
        mark_seen(user.pk, 99)
        raise ZeroDivisionError
    assert counts(user) == (2, 1, 1, 0)


def test_change_without_items(user):
    """A client at the old head has missed a change, of no row."""
    notify(user, "one")
    mark_seen(user.pk, 1)
    missed = changes.read_missed({user.pk: [1]})[user.pk, 1]
    assert (missed.position.head, missed.position.unseen, missed.rows, missed.reset) == (2, 0, [], False)


def test_streams_of_others_stay(user, other_user):
    notify([user, other_user], "both")
    mark_seen(user.pk, 1)
    assert (counts(user), counts(other_user)) == ((2, 1, 1, 0), (1, 1, 0, 1))
