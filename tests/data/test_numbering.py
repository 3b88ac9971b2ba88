"""Numbering in one process: what gets which number, when, and what the stream says about it."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from notifications import streams
from notifications.api import notify
from notifications.ids import process_number, uuid7
from notifications.jobs.policies import DEFAULT_POLICY
from notifications.jobs.transitions import outcomes, recording
from notifications.models import Job, Notification, Ring, Stream
from notifications.signals import rung
from notifications.streams import inbox, numbering
from tests.data.rows import finish_job, job, unnumbered
from tests.data.shapes import assert_orderly, position, seqs, titles
from tests.support.claims import claim_rows

pytestmark = pytest.mark.database_law


def locks_of(queries):
    return [query for query in queries.captured_queries if "ON CONFLICT (user_id)" in query["sql"]]


def test_notifications_are_numbered_in_order(user, given):
    """Each one takes the next number; head and unread follow."""
    for number in range(3):
        notify(user, f"note {number}")
    assert seqs(user) == [1, 2, 3]
    assert position(user) == (3, 3)
    assert given(user.pk) == [1, 2, 3]
    assert_orderly([user])


def test_streams_of_users_are_their_own(users):
    """The same call gives each user a number of their own stream."""
    first, second = users(2)
    notify(first, "before")
    notify([second, first, second], "both")
    assert (position(first), position(second)) == ((2, 2), (1, 1))
    assert_orderly([first, second])


def test_finished_jobs_and_notifications_share_one_sequence(user, given):
    """A job is no part of the stream until it is done; then it and its notification take two numbers."""
    notify(user, "before")
    done = job(user)
    assert (done.seq, position(user)) == (0, (1, 1))
    finish_job(done, uuid7())
    done.refresh_from_db()
    told = Notification.objects.get(job=done.pk)
    assert sorted([done.seq, told.seq]) == [2, 3]
    assert given(user.pk) == [1, 2, 3]
    assert_orderly([user])


def test_a_job_of_nobody_has_no_number(transactional_db):
    """Without an owner there is no stream; the leftovers are not disturbed by it."""
    worker = uuid7()
    nobodys = job(None)
    claim_rows(worker, 1)
    nobodys.refresh_from_db()
    recording.record_outcomes([outcomes.succeeded(nobodys, DEFAULT_POLICY, None)])
    streams.number_pending()
    assert Job.objects.get().seq == 0
    assert not Stream.objects.exists()


def test_reading_moves_the_row_and_keeps_raised(user, given):
    """A changed row takes a new number; the one that it was raised at stays."""
    first, second = (notify(user, title)[0] for title in ("first", "second"))
    assert inbox.mark(user.pk, "read", 2, [first]) is False
    row = Notification.objects.get(pk=first)
    assert (row.seq, row.raised, row.counted) == (3, 1, False)
    assert row.read_at is not None
    assert Notification.objects.get(pk=second).seq == 2
    assert position(user) == (3, 1)
    assert given(user.pk) == [1, 2, 3]


def test_a_pass_is_bounded_and_repeated(user, given):
    """More rows than one pass takes are numbered by several short transactions, in the order of their ids."""
    unnumbered(user.pk, 450)
    with CaptureQueriesContext(connection) as queries:
        streams.number([user.pk])
    transactions = locks_of(queries)
    assert len(transactions) == (5 if connection.vendor == "sqlite" else 3)
    assert seqs(user) == list(range(1, 451))
    assert_orderly([user])


def test_many_users_are_locked_a_hundred_at_a_time_in_order(users, monkeypatch):
    """No transaction holds more than a hundred streams, and all processes take them in one order."""
    everybody = users(250)
    locked = []
    really = numbering.Pass.lock_streams

    def lock_streams(self):
        locked.append(list(self.users))
        really(self)

    monkeypatch.setattr(numbering.Pass, "lock_streams", lock_streams)
    unnumbered(everybody[0], 1)
    streams.number(reversed(everybody))
    assert [len(some) for some in locked] == [100, 100, 50]
    assert [user for some in locked for user in some] == everybody


def test_leftovers_numbers_what_others_left(users, given):
    """Whatever waits, of whichever user, is numbered without being told of."""
    first, second = users(2)
    unnumbered(first, 250)
    unnumbered(second, 3)
    streams.number_pending()
    assert (position(first), position(second)) == ((250, 250), (3, 3))
    assert given(first) == list(range(1, 251))
    assert_orderly([first, second])


def test_leftovers_without_any_costs_one_statement(user):
    """Each process asks every second: with nothing to do it writes nothing and locks nothing."""
    notify(user, "numbered")
    with CaptureQueriesContext(connection) as queries:
        streams.number_pending()
    reads = [query["sql"] for query in queries.captured_queries if "notifications_ring" not in query["sql"]]
    assert len(reads) == 1
    assert reads[0].startswith("SELECT")


def test_numbering_nobody_does_nothing(transactional_db):
    """An empty set of users is no error."""
    with CaptureQueriesContext(connection) as queries:
        streams.number([])
        assert streams.number_in_transaction([]) is False
    assert not queries.captured_queries


def test_unread_counts_what_is_numbered_and_open(user):
    """Reading twice, and reading what is archived, takes nothing away twice."""
    for number in range(4):
        notify(user, f"note {number}", key="progress" if number > 1 else "")
    assert position(user)[1] == 3  # the third was replaced by the fourth
    for _ in range(2):
        inbox.mark(user.pk, "read", position(user)[0])
        assert position(user)[1] == 0
    assert_orderly([user])


def test_a_rolled_back_numbering_gives_nothing(user, given, monkeypatch):
    """Rows and stream are of one transaction: where it fails, the next one gives the same numbers."""
    notify(user, "before")
    unnumbered(user.pk, 2)
    with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError):
        broken.setattr(streams, "ring", lambda users: 1 / 0)
        streams.number([user.pk])
    assert (position(user), seqs(user)) == ((1, 1), [1, None, None])
    streams.number_pending()
    assert given(user.pk) == [1, 2, 3]
    assert titles(user) == ["before", "left 0", "left 1"]


def test_ring_follows_the_commit(user):
    """Who has news is said once it can be read: in this process by a signal, on SQLite to others by a row."""
    heard = []

    def hear(users, queue, **kwargs):
        heard.append((users, queue, position(user)))

    rung.connect(hear)
    try:
        with transaction.atomic():
            notify(user, "later")
            assert heard == []
        notify(user, "now")
    finally:
        rung.disconnect(hear)
    assert heard == [([user.pk], False, (1, 1)), ([user.pk], False, (2, 2))]
    rows = [(user.pk, process_number())] * (2 if connection.vendor == "sqlite" else 0)
    assert list(Ring.objects.values_list("user", "origin")) == rows


def test_rings_are_kept_within_bounds(on_sqlite, monkeypatch):
    """The last rings are kept, old ones go."""
    monkeypatch.setattr(streams.rings, "MAX_RINGS_KEPT", 10)
    for user in range(1, 41):
        streams.ring([user])
    streams.number_pending()
    assert list(Ring.objects.order_by("id").values_list("user", flat=True)) == list(range(31, 41))
