"""Inside a caller's transaction: only inserts, numbered once after its commit, and nothing after a rollback."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from notifications import streams
from notifications.api import notify
from notifications.models import Job, Notification, Ring, Stream
from notifications.signals import rung
from notifications.streams import inbox
from tests.data.rows import job
from tests.data.shapes import assert_orderly, position, seqs, titles
from tests.data.test_numbering import locks_of

pytestmark = pytest.mark.database_law


@pytest.fixture
def heard(transactional_db):
    """Every ring of this process: (users, queue)."""
    rings = []

    def hear(users, queue, **kwargs):
        rings.append((users, queue))

    rung.connect(hear)
    yield rings
    rung.disconnect(hear)


def test_a_rollback_leaves_nothing(user, given, heard):
    """No row, no ring, no number, and no stream either, also when more is numbered on the same connection."""
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        notify(user, "never")
        job(user)
        assert Notification.objects.count() == Job.objects.count() == 1
        raise ZeroDivisionError
    with transaction.atomic():
        streams.number([user.pk + 1])
    assert heard == []
    for model in (Notification, Job, Ring):
        assert not model.objects.exists(), model
    assert not Stream.objects.filter(pk=user.pk).exists()
    assert given(user.pk) == []
    notify(user, "first")
    assert seqs(user) == [1]


def test_nothing_is_locked_or_numbered_before_the_commit(user, heard):
    """The caller's transaction only inserts."""
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        notify(user, "note")
        assert seqs(user) == [None]
    statements = [query["sql"].split()[0] for query in queries.captured_queries]
    assert set(statements) <= {"INSERT", "SELECT", "SAVEPOINT", "RELEASE"}
    assert not locks_of(queries)
    assert seqs(user) == [1]
    assert heard == [([user.pk], False)]


def test_a_transaction_is_numbered_once(user, heard):
    """Fifty calls make one numbering and one ring."""
    with CaptureQueriesContext(connection) as queries, transaction.atomic():
        for number in range(50):
            notify(user, f"note {number}")
    assert len(locks_of(queries)) == 1
    assert heard == [([user.pk], False)]
    assert_orderly([user])


def test_a_savepoint_rolled_back_takes_its_own_along(users, given):
    """What was asked for around it is numbered all the same: before, inside and after it, for whichever user."""
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
    assert given(first) == given(third) == [1]
    assert_orderly([first, second, third])


def test_a_first_savepoint_rolled_back_at_the_end(user):
    """The callback that was registered first is gone; the others number what they have to."""
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


def test_a_hook_of_the_host_that_raises_loses_nothing(user, given):
    """Django drops the hooks after one that raises: the leftovers of the next second make up for it."""
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        transaction.on_commit(lambda: 1 / 0)
        notify(user, "note")
    assert seqs(user) == [None]
    streams.number_pending()
    assert given(user.pk) == [1]
    assert_orderly([user])


def test_a_hook_after_a_lost_one_is_not_confused(users):
    """The next transaction of the same connection numbers its own."""
    first, second = users(2)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        transaction.on_commit(lambda: 1 / 0)
        notify(first, "left")
    with transaction.atomic():
        notify(second, "note")
    assert seqs(second) == [1]
    streams.number_pending()
    assert_orderly([first, second])


def test_a_numbering_that_fails_after_the_commit_is_the_apps_own_affair(user, monkeypatch, caplog):
    """The caller has committed: nothing is raised at them, the failure is logged, and the next second mends it."""
    with monkeypatch.context() as broken:
        broken.setattr(streams, "number_in_transaction", lambda users: 1 / 0)
        done = []
        with transaction.atomic():
            notify(user, "note")
            transaction.on_commit(lambda: done.append(True))
    assert done == [True]
    assert "ZeroDivisionError" in caplog.text
    assert seqs(user) == [None]
    streams.number_pending()
    assert_orderly([user])


def test_reading_inside_a_transaction_is_put_off(user):
    """A change of existing rows would lock them: it waits until the caller's transaction is over."""
    notify(user, "note")
    with transaction.atomic():
        assert inbox.mark(user.pk, "read", 1) is False
        assert Notification.objects.get().read_at is None
    assert Notification.objects.get().read_at is not None
    assert position(user) == (2, 0)


def test_reading_inside_a_transaction_that_is_rolled_back(user):
    """Nothing was read."""
    notify(user, "note")
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        inbox.mark(user.pk, "read", 1)
        raise ZeroDivisionError
    assert Notification.objects.get().read_at is None
    assert position(user) == (1, 1)


def test_a_user_made_in_the_same_transaction(transactional_db, django_user_model):
    """Signing up and being welcomed is one transaction."""
    with transaction.atomic():
        made = django_user_model.objects.create_user("new")
        notify(made, "Welcome")
    assert position(made) == (1, 1)
