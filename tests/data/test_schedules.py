"""Orders of events that chance brings about seldom, forced step by step on PostgreSQL."""

import psycopg
import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction

from notifications import streams
from notifications.api import notify
from notifications.ids import uuid7
from notifications.models import Job, Notification, Stream
from notifications.streams import inbox
from notifications.streams.numbering import Pass
from tests.data.conftest import scalar
from tests.data.rows import finish_job, job, unnumbered
from tests.data.shapes import assert_orderly, position, seqs, titles

pytestmark = [pytest.mark.database_law, pytest.mark.usefixtures("on_postgresql")]


@pytest.mark.parametrize("ending", ["commit", "roll_back"])
def test_a_row_that_is_locked_is_passed_over(ending, elsewhere, user, given):
    """Numbering goes on with the others; the row is numbered when its holder is gone, whatever the holder did."""
    first, _ = unnumbered(user.pk, 2)
    holder = elsewhere()
    holder.begin()
    holder.do(lambda: Notification.objects.select_for_update().get(pk=first))
    streams.number([user.pk])
    assert seqs(user) == [None, 1]
    getattr(holder, ending)()
    streams.number_pending()
    assert seqs(user) == [2, 1]
    assert given(user.pk) == [1, 2]
    assert_orderly([user])


def test_a_job_that_is_locked_is_passed_over(elsewhere, user, given):
    """Whoever wants to retry it by hand, say, holds up no notification."""
    finish_job(row := job(user), uuid7())
    Job.objects.update(seq=None)
    holder = elsewhere()
    holder.begin()
    holder.do(lambda: Job.objects.select_for_update().get(pk=row.pk))
    (left,) = unnumbered(user.pk, 1)
    streams.number([user.pk])
    assert Job.objects.get().seq is None
    assert Notification.objects.get(pk=left).seq == 3
    holder.roll_back()
    streams.number_pending()
    assert Job.objects.get().seq == 4
    assert_orderly([user])


def test_a_transaction_that_is_open_stalls_nobody(elsewhere, user, given):
    """Who commits later is numbered later, though the row was inserted, and its id made, before."""
    slow = elsewhere()
    slow.begin()
    slow.do(notify, user, "slow")
    notify(user, "quick")
    assert (titles(user), position(user)) == (["quick"], (1, 1))
    slow.commit()
    assert titles(user) == ["quick", "slow"]
    assert given(user.pk) == [1, 2]


def test_numbering_waits_for_the_stream_and_then_sees_what_was_committed(elsewhere, user, given):
    """The rows are read by a later statement than the one that locks. The snapshot of one statement for both would be
    older than its lock, and what the other had numbered would be numbered again."""
    unnumbered(user.pk, 3)
    first, second = elsewhere(), elsewhere()
    first.begin()
    first.do(streams.number_in_transaction, [user.pk])
    waiting = second.start(streams.number, [user.pk])
    second.wait_until_blocked()
    unnumbered(user.pk, 1)
    first.commit()
    waiting.result(60)
    assert given(user.pk) == [1, 2, 3, 4]
    assert_orderly([user])


def test_a_stream_that_is_locked_is_not_head_plus_one_for_readers(elsewhere, user):
    """Until the numbering commits a reader sees neither head nor row."""
    unnumbered(user.pk, 1)
    numbering = elsewhere()
    numbering.begin()
    numbering.do(streams.number_in_transaction, [user.pk])
    assert (position(user), seqs(user)) == ((0, 0), [None])
    numbering.commit()
    assert (position(user), seqs(user)) == ((1, 1), [1])


def test_two_create_the_stream_at_once(elsewhere, user, given):
    """The second waits for the first and goes on from there; nobody fails, and no deadlock is met."""
    first, second = elsewhere(), elsewhere()
    first.begin()
    first.do(number_inserted, user, "first")
    other = second.start(notify, user, "second")
    second.wait_until_blocked()
    first.commit()
    other.result(60)
    assert titles(user) == ["first", "second"]
    assert given(user.pk) == [1, 2]


def test_two_create_the_stream_and_the_first_gives_up(elsewhere, user, given):
    """A stream made in a transaction that is rolled back was never there."""
    first, second = elsewhere(), elsewhere()
    first.begin()
    first.do(number_inserted, user, "never")
    other = second.start(notify, user, "second")
    second.wait_until_blocked()
    first.roll_back()
    other.result(60)
    assert titles(user) == ["second"]
    assert given(user.pk) == [1]


def test_streams_are_locked_in_one_order(elsewhere, users, deadlocks):
    """Two who take the same users, named in opposite orders, wait for each other in turn and not in a circle."""
    many = users(60)
    for _ in range(20):
        for user in many:
            unnumbered(user, 1)
        first, second = elsewhere(), elsewhere()
        going = [first.start(streams.number, many), second.start(streams.number, many[::-1])]
        for one in going:
            one.result(60)
    assert deadlocks() == 0
    assert_orderly(many)


@pytest.mark.parametrize("lock", ["FOR UPDATE", "FOR NO KEY UPDATE"])
def test_a_host_that_locks_the_user_stalls_nobody(lock, elsewhere, user):
    """No foreign key is checked: a host's lock on a user is none of ours, and neither is ours theirs."""
    host = elsewhere()
    host.begin()
    table = get_user_model()._meta.db_table
    host.do(scalar, f"SELECT id FROM {table} WHERE id = %s {lock}", user.pk)
    with lock_timeout():
        notify(user, "note")
        with transaction.atomic():
            notify(user, "another")
        inbox.mark(user.pk, "read", 1)
    assert position(user) == (3, 1)
    assert_orderly([user])


def test_deleting_a_user_who_is_being_notified(elsewhere, user):
    """Neither waits for the other."""
    writer = elsewhere()
    writer.begin()
    writer.do(notify, user, "note")
    with lock_timeout():
        user.delete()
    writer.commit()
    assert get_user_model().objects.count() == 0


def test_numbering_holds_nothing_that_a_foreign_key_of_the_host_needs(elsewhere, user):
    """A host's table may point at a notification: its insert takes a key-share lock, which is no obstacle."""
    (id,) = unnumbered(user.pk, 1)
    host = elsewhere()
    host.begin()
    host.do(scalar, "SELECT 1 FROM notifications_notification WHERE id = %s FOR KEY SHARE", id)
    streams.number([user.pk])
    assert seqs(user) == [1]


def test_a_row_held_for_long_is_an_error_to_the_reader_only(elsewhere, user, monkeypatch):
    """Marking as read waits up to 5 s for a row, holding no stream; others are notified meanwhile."""
    (id,) = notify(user, "held")
    holder, reader = elsewhere(), elsewhere()
    holder.begin()
    holder.do(lambda: Notification.objects.select_for_update().get(pk=id))
    reading = reader.start(inbox.mark, user.pk, "read", 1)
    reader.wait_until_blocked()
    with lock_timeout():
        notify(user, "meanwhile")
    assert position(user) == (2, 2)
    with pytest.raises(psycopg.errors.LockNotAvailable) as raised:
        try:
            reading.result(60)
        except Exception as error:
            raise error.__cause__ from None
    assert "lock timeout" in str(raised.value)
    holder.roll_back()
    assert inbox.mark(user.pk, "read", 1) is False
    assert_orderly([user])


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_host_with_another_isolation_level(level, elsewhere, users, given):
    """Our own transactions are READ COMMITTED, whatever the host's default: concurrent ones do not fail."""
    first, second = users(2)
    hosts = [elsewhere() for _ in range(4)]
    for host in hosts:
        host.do(scalar, "SELECT set_config('default_transaction_isolation', %s, false)", level)
    going = [host.start(many_notifies, first, second, f"{number}") for number, host in enumerate(hosts)]
    for one in going:
        one.result(60)
    assert given(first) == given(second) == list(range(1, 81))
    assert_orderly([first, second])


def test_our_own_transactions_are_read_committed(elsewhere, user, monkeypatch):
    """A numbering that waited for the stream must see what was committed meanwhile, whatever the host prefers."""
    seen = []
    really = Pass.run

    def run(self):
        seen.append(scalar("SHOW transaction_isolation"))
        return really(self)

    monkeypatch.setattr(Pass, "run", run)
    host = elsewhere()
    host.do(scalar, "SELECT set_config('default_transaction_isolation', 'serializable', false)")
    host.do(notify, user, "note")
    assert seen == ["read committed"]
    assert host.do(scalar, "SHOW transaction_isolation") == "serializable"


@pytest.fixture
def deadlocks(transactional_db):
    """deadlocks() counts what the server has reported since the test began."""
    sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = scalar(sql)

    def since():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
        return scalar(sql) - before

    return since


class lock_timeout:
    """Fail instead of waiting for a lock."""

    def __enter__(self):
        scalar("SELECT set_config('lock_timeout', '2s', false)")

    def __exit__(self, *error):
        scalar("SELECT set_config('lock_timeout', '0', false)")


def number_inserted(user, title):
    """Insert and number in the open transaction, as a transaction of our own does."""
    inbox.build_notification(user.pk, title).save(force_insert=True)
    streams.number_in_transaction([user.pk])
    assert Stream.objects.get(pk=user).head == 1


def many_notifies(first, second, title):
    for _ in range(10):
        notify([first, second], title)
        with transaction.atomic():
            notify([second, first], title)
