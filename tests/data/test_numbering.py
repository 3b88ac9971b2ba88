"""Numbering in one process: seqs of rows, and the head and unread of streams."""

import re
import time

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from notifications import streams
from notifications.api import notify
from notifications.models import Job, Notification, Ring, Stream, uuid7
from notifications.signals import rung
from notifications.streams import marking
from tests.data.rows import finish_job, job, unnumbered
from tests.data.shapes import assert_consistent, position, seqs, titles
from tests.support.claims import claim_rows
from tests.support.outcomes import record, succeeded

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]

#: Rows that one pass numbers.
PASS = 100 if connection.vendor == "sqlite" else 200


def lock_queries(queries):
    """Return a captured query of each pass: that which locks streams. On SQLite the transaction has the lock."""
    words = "SELECT id, user_id, raised" if connection.vendor == "sqlite" else "ON CONFLICT (user_id)"
    return [query for query in queries.captured_queries if words in query["sql"]]


def test_notifications_are_numbered_in_order(user, assigned_seqs):
    """Each notification gets the next seq, and head and unread are increased."""
    for number in range(3):
        notify(user, f"note {number}")
    assert seqs(user) == [1, 2, 3]
    assert position(user) == (3, 3)
    assert assigned_seqs(user.pk) == [1, 2, 3]
    assert_consistent([user])


def test_each_user_has_a_separate_stream(users):
    """A notification of several users gets a seq of each user's own stream."""
    first, second = users(2)
    notify(first, "before")
    notify([second, first, second], "both")
    assert (position(first), position(second)) == ((2, 2), (1, 1))
    assert_consistent([first, second])


def test_finished_jobs_and_notifications_share_one_sequence(user, assigned_seqs):
    """A job gets no seq until it is finished; then it and its notification get two seqs of one stream."""
    notify(user, "before")
    row = job(user)
    assert (row.seq, position(user)) == (0, (1, 1))
    finish_job(row, uuid7())
    row.refresh_from_db()
    notification = Notification.objects.get(job=row.pk)
    assert sorted([row.seq, notification.seq]) == [2, 3]
    assert assigned_seqs(user.pk) == [1, 2, 3]
    assert_consistent([user])


def test_job_without_owner_has_no_seq(transactional_db):
    """A finished job without an owner has no seq and no stream, and numbering pending rows ignores it."""
    worker = uuid7()
    row = job(None)
    claim_rows(worker, 1)
    row.refresh_from_db()
    record(succeeded(row))
    streams.number_pending()
    assert Job.objects.get().seq == 0
    assert not Stream.objects.exists()


def test_marking_as_read_changes_seq_but_not_raised(user, assigned_seqs):
    """A notification that is marked as read gets a new seq, and its raised does not change."""
    first, second = (notify(user, title)[0] for title in ("first", "second"))
    assert marking.mark(user.pk, "read", 2, [first]).next is None
    row = Notification.objects.get(pk=first)
    assert (row.seq, row.raised, row.counted) == (3, 1, False)
    assert row.read_at is not None
    assert Notification.objects.get(pk=second).seq == 2
    assert position(user) == (3, 1)
    assert assigned_seqs(user.pk) == [1, 2, 3]


def test_many_rows_are_numbered_in_several_passes(user, assigned_seqs):
    """More rows than one pass takes are numbered in several short transactions, in the order of their ids."""
    unnumbered(user.pk, 450)
    with CaptureQueriesContext(connection) as queries:
        streams.number([user.pk])
    transactions = lock_queries(queries)
    assert len(transactions) == (5 if connection.vendor == "sqlite" else 3)
    assert seqs(user) == list(range(1, 451))
    assert_consistent([user])


def test_streams_are_locked_in_chunks_and_in_order(users):
    """A transaction locks at most 100 streams, in the order of their keys, whatever order the caller gives."""
    user_keys = users(250)
    unnumbered(user_keys[0], 1)
    with CaptureQueriesContext(connection) as queries:
        streams.number(reversed(user_keys))
    known = set(user_keys)
    locked = [
        [
            user
            for user in map(int, re.findall(r"\b\d+\b", query["sql"].partition("LIMIT")[0]))
            if user in known
        ]
        for query in lock_queries(queries)
    ]
    assert [len(chunk) for chunk in locked] == [100, 100, 50]
    assert [user for chunk in locked for user in chunk] == user_keys


def test_rows_of_both_kinds_are_numbered_by_id(user):
    """Notifications and finished jobs that wait together get seqs in the order of their creation, in each pass."""
    first = job(user)
    columns = {field.attname: getattr(first, field.attname) for field in Job._meta.concrete_fields}
    Job.objects.all().delete()
    notes = [streams.build_notification(user.pk, "note") for _ in range(3 * PASS)]
    jobs = [Job(**columns | {"id": note.id, "state": "succeeded", "seq": None}) for note in notes[::2]]
    Job.objects.bulk_create(jobs)
    Notification.objects.bulk_create(notes[1::2])
    with CaptureQueriesContext(connection) as queries:
        streams.number([user.pk])
    assert seqs(user) == list(range(2, 3 * PASS + 1, 2))
    assert list(Job.objects.order_by("id").values_list("seq", flat=True)) == list(range(1, 3 * PASS, 2))
    assert len(lock_queries(queries)) in (3, 4)  # the last one may find that nothing is left


def test_pending_row_that_is_locked_delays_no_other(open_connection, user, on_postgresql):
    """Numbering holds the stream, so it does not wait for the row. Later the row is numbered too."""
    (locked, _) = unnumbered(user.pk, 2)
    holder, numbering = open_connection(), open_connection()
    holder.begin()
    holder.do(lambda: Notification.objects.select_for_update().get(pk=locked))
    numbering.do(streams.number_pending)
    assert titles(user, seq__gt=0) == ["left 1"]
    holder.roll_back()
    streams.number_pending()
    assert titles(user) == ["left 1", "left 0"]
    assert_consistent([user])


def test_pending_rows_of_all_users_are_numbered(users, assigned_seqs):
    """number_pending() numbers the pending rows of all users."""
    first, second = users(2)
    unnumbered(first, 250)
    unnumbered(second, 3)
    streams.number_pending()
    assert (position(first), position(second)) == ((250, 250), (3, 3))
    assert assigned_seqs(first) == list(range(1, 251))
    assert_consistent([first, second])


def test_pending_job_of_a_user_without_notifications_is_numbered(user):
    row = job(user)
    Job.objects.update(state="succeeded", seq=None)
    streams.number_pending()
    row.refresh_from_db()
    assert (row.seq, position(user)) == (1, (1, 0))


def test_floor_never_falls(user):
    notify(user, "note")
    for floor in (5, 3):
        streams.raise_floors({user.pk: floor})
    assert Stream.objects.get().floor == 5


def test_numbering_without_pending_rows_takes_one_statement(user):
    """Without pending rows, number_pending(), which each process calls every second, takes one SELECT."""
    notify(user, "numbered")
    with CaptureQueriesContext(connection) as queries:
        streams.number_pending()
    reads = [query["sql"] for query in queries.captured_queries if "notifications_ring" not in query["sql"]]
    assert len(reads) == 1
    assert reads[0].startswith("SELECT")


def test_numbering_no_users_does_nothing(transactional_db):
    """Numbering no users executes no query and raises no error."""
    with CaptureQueriesContext(connection) as queries:
        streams.number([])
        assert streams.number_in_transaction([]) is False
    assert not queries.captured_queries


def test_unread_is_decreased_once_per_row(user):
    """Marking a row as read twice, or an archived row, does not decrease unread again."""
    for number in range(4):
        notify(user, f"note {number}", key="progress" if number > 1 else "")
    assert position(user)[1] == 3  # the fourth has archived the third, which has the same key
    for _ in range(2):
        marking.mark(user.pk, "read", position(user)[0])
        assert position(user)[1] == 0
    assert_consistent([user])


def test_failed_numbering_is_rolled_back(user, assigned_seqs):
    """If numbering fails, rows and stream are rolled back together, and the next attempt assigns the same seqs."""
    notify(user, "before")
    unnumbered(user.pk, 2)
    written = set()

    def fail_after_the_rows_and_the_stream(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        written.update(re.findall(r"UPDATE \W?(notifications_(?:notification|stream))\b", sql))
        if len(written) == 2:
            raise ZeroDivisionError
        return result

    with connection.execute_wrapper(fail_after_the_rows_and_the_stream), pytest.raises(ZeroDivisionError):
        streams.number([user.pk])
    assert (position(user), seqs(user)) == ((1, 1), [1, None, None])
    streams.number_pending()
    assert assigned_seqs(user.pk) == [1, 2, 3]
    assert titles(user) == ["before", "left 0", "left 1"]


def test_ring_follows_the_commit(user):
    """Rings are sent after the commit: to this process by a signal, and on SQLite to others by a row."""
    rings = []

    def record_ring(users, queue, **kwargs):
        rings.append((users, queue, position(user)))

    rung.connect(record_ring)
    try:
        with transaction.atomic():
            notify(user, "later")
            assert rings == []
        notify(user, "now")
    finally:
        rung.disconnect(record_ring)
    assert rings == [([user.pk], False, (1, 1)), ([user.pk], False, (2, 2))]
    assert list(Ring.objects.values_list("user", flat=True)) == [user.pk] * (
        2 if connection.vendor == "sqlite" else 0
    )


def test_rings_are_deleted_within_a_minute(on_sqlite):
    """Once one is older than 50 s, those of the last 20 s are kept; also after the clock was set back."""
    now = int(time.time())
    kept = {1: -1, 2: -49}
    Ring.objects.bulk_create(Ring(user_id=user, rung_at=now + seconds) for user, seconds in kept.items())
    streams.number_pending()
    assert set(Ring.objects.values_list("user", flat=True)) == {1, 2}
    for oldest in (-52, 3600):
        Ring.objects.all().delete()
        ages = {1: oldest, 2: -25, 3: -15, 4: 0}
        Ring.objects.bulk_create(Ring(user_id=user, rung_at=now + seconds) for user, seconds in ages.items())
        streams.number_pending()
        assert set(Ring.objects.values_list("user", flat=True)) == {3, 4}
