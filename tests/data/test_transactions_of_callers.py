"""Calls inside a caller's transaction: rows are inserted, numbered once after the commit, and gone after a rollback."""

import re

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from notifications import streams
from notifications.api import notify
from notifications.models import Job, Notification, Ring, Stream
from notifications.signals import rung
from notifications.streams import marking
from tests.data.rows import job
from tests.data.shapes import assert_consistent, position, seqs, titles
from tests.data.test_numbering import lock_queries
from tests.support.statements import preceded

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


@pytest.fixture
def rings(transactional_db):
    """The rings of this process, each (users, queue)."""
    received = []

    def record_ring(users, queue, **kwargs):
        received.append((users, queue))

    rung.connect(record_ring)
    yield received
    rung.disconnect(record_ring)


def test_rollback_leaves_nothing(user, assigned_seqs, rings):
    """A rollback leaves no row, ring, seq or stream, also if others are numbered on the connection afterwards."""
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        notify(user, "never")
        job(user)
        assert Notification.objects.count() == Job.objects.count() == 1
        raise ZeroDivisionError
    with transaction.atomic():
        streams.number([user.pk + 1])
    assert rings == []
    for model in (Notification, Job, Ring):
        assert not model.objects.exists(), model
    assert not Stream.objects.filter(pk=user.pk).exists()
    assert assigned_seqs(user.pk) == []
    notify(user, "first")
    assert seqs(user) == [1]


def test_nothing_is_locked_or_numbered_before_the_commit(user, rings):
    """In the caller's transaction rows are only inserted; streams are locked after the commit."""
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        notify(user, "note")
        assert seqs(user) == [None]
    # Django puts "1 times: " before what was executed by executemany().
    statements = [re.sub(r"^\d+ times: ", "", query["sql"]).split()[0] for query in queries.captured_queries]
    assert set(statements) <= {"INSERT", "SELECT", "SAVEPOINT", "RELEASE"}
    assert not lock_queries(queries)
    assert seqs(user) == [1]
    assert rings == [([user.pk], False)]


def test_transaction_is_numbered_once(user, rings):
    """50 calls in one transaction cause one numbering and one ring."""
    with CaptureQueriesContext(connection) as queries, transaction.atomic():
        for number in range(50):
            notify(user, f"note {number}")
    assert len(lock_queries(queries)) == 1
    assert rings == [([user.pk], False)]
    assert_consistent([user])


def test_rolled_back_savepoint(users, assigned_seqs):
    """A savepoint that is rolled back does not affect the numbering of rows written before and after it."""
    first, second, third = users(3)
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            notify([first, second], "never")
            raise ZeroDivisionError
        notify(first, "kept")
        with transaction.atomic():
            notify(third, "kept too")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            notify([first, third], "never again")
            raise ZeroDivisionError
    assert (titles(first), titles(second), titles(third)) == (["kept"], [], ["kept too"])
    assert assigned_seqs(first) == assigned_seqs(third) == [1]
    assert_consistent([first, second, third])


def test_rolled_back_savepoint_with_the_first_callback(user):
    """If the savepoint with the first on_commit callback is rolled back, later rows are still numbered."""
    with transaction.atomic():
        try:
            with transaction.atomic():
                notify(user, "never")
                with transaction.atomic():
                    notify(user, "never either")
                raise ZeroDivisionError
        except ZeroDivisionError:
            notify(user, "instead")
    assert (titles(user), seqs(user)) == (["instead"], [1])


def test_callback_of_the_project_that_raises(user, assigned_seqs):
    """If a project's on_commit callback raises, Django drops later ones; the periodic numbering does their work."""
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        transaction.on_commit(lambda: 1 / 0)
        notify(user, "note")
    assert seqs(user) == [None]
    streams.number_pending()
    assert assigned_seqs(user.pk) == [1]
    assert_consistent([user])


def test_transaction_after_a_dropped_callback(users):
    """After a dropped callback, the next transaction of the connection numbers its own rows."""
    first, second = users(2)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        transaction.on_commit(lambda: 1 / 0)
        notify(first, "left")
    with transaction.atomic():
        notify(second, "note")
    assert seqs(second) == [1]
    streams.number_pending()
    assert_consistent([first, second])


def test_failed_numbering_after_the_commit_is_logged(user, caplog):
    """If numbering fails after the commit, the error is logged, not raised, and the periodic numbering retries it."""
    with preceded("notifications_stream", lambda: 1 / 0, times=None):
        calls = []
        with transaction.atomic():
            notify(user, "note")
            transaction.on_commit(lambda: calls.append(True))
    assert calls == [True]
    assert "ZeroDivisionError" in caplog.text
    assert seqs(user) == [None]
    streams.number_pending()
    assert_consistent([user])


def test_marking_in_a_transaction_runs_after_the_commit(user):
    """Marking as read in a transaction is executed after the commit, because it would lock rows until then."""
    notify(user, "note")
    with transaction.atomic():
        assert marking.mark(user.pk, "read", 1).next is None
        assert Notification.objects.get().read_at is None
    assert Notification.objects.get().read_at is not None
    assert position(user) == (2, 0)


def test_marking_in_a_transaction_that_is_rolled_back(user):
    """Marking as read in a transaction that is rolled back changes nothing."""
    notify(user, "note")
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        marking.mark(user.pk, "read", 1)
        raise ZeroDivisionError
    assert Notification.objects.get().read_at is None
    assert position(user) == (1, 1)


def test_user_created_in_the_same_transaction(transactional_db, make_user):
    """A user who is created in the same transaction can be notified."""
    with transaction.atomic():
        user = make_user("new")
        notify(user, "Welcome")
    assert position(user) == (1, 1)
