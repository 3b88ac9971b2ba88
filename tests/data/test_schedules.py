"""Rare interleavings of transactions, forced step by step on PostgreSQL."""

import psycopg
import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction

from notifications import streams
from notifications.api import notify
from notifications.models import Job, Notification, Stream, uuid7
from notifications.streams import build_notification, marking
from tests.data.conftest import scalar
from tests.data.rows import finish_job, job, unnumbered
from tests.data.shapes import assert_consistent, position, seqs, titles
from tests.support.statements import preceded

pytestmark = [pytest.mark.database_law, pytest.mark.usefixtures("on_postgresql")]


@pytest.mark.parametrize("ending", ["commit", "roll_back"])
def test_locked_notification_is_skipped(ending, open_connection, user, assigned_seqs):
    """A row that another transaction has locked is skipped, and numbered after that transaction has ended."""
    first, _ = unnumbered(user.pk, 2)
    holder = open_connection()
    holder.begin()
    holder.do(lambda: Notification.objects.select_for_update().get(pk=first))
    streams.number([user.pk])
    assert seqs(user) == [None, 1]
    getattr(holder, ending)()
    streams.number_pending()
    assert seqs(user) == [2, 1]
    assert assigned_seqs(user.pk) == [1, 2]
    assert_consistent([user])


def test_locked_job_is_skipped(open_connection, user, assigned_seqs):
    """A locked job, for example one that is being retried manually, does not delay notifications."""
    finish_job(row := job(user), uuid7())
    Job.objects.update(seq=None)
    holder = open_connection()
    holder.begin()
    holder.do(lambda: Job.objects.select_for_update().get(pk=row.pk))
    (left,) = unnumbered(user.pk, 1)
    streams.number([user.pk])
    assert Job.objects.get().seq is None
    assert Notification.objects.get(pk=left).seq == 3
    holder.roll_back()
    streams.number_pending()
    assert Job.objects.get().seq == 4
    assert_consistent([user])


def test_open_transaction_delays_no_others(open_connection, user, assigned_seqs):
    """An open transaction delays no other writer; its row is numbered after its commit, although its id is lower."""
    slow = open_connection()
    slow.begin()
    slow.do(notify, user, "slow")
    notify(user, "quick")
    assert (titles(user), position(user)) == (["quick"], (1, 1))
    slow.commit()
    assert titles(user) == ["quick", "slow"]
    assert assigned_seqs(user.pk) == [1, 2]


def test_rows_are_read_after_the_stream_is_locked(open_connection, user, assigned_seqs):
    """A numbering that waited for the stream reads the rows after it has the lock, by a second statement.

    The snapshot of one statement for both would be older than its lock, and rows would be numbered twice.
    """
    unnumbered(user.pk, 3)
    first, second = open_connection(), open_connection()
    first.begin()
    first.do(streams.number_in_transaction, [user.pk])
    waiting = second.start(streams.number, [user.pk])
    second.wait_until_blocked()
    unnumbered(user.pk, 1)
    first.commit()
    waiting.result(60)
    assert assigned_seqs(user.pk) == [1, 2, 3, 4]
    assert_consistent([user])


def test_uncommitted_numbering_is_not_visible(open_connection, user):
    """Until numbering commits, a reader sees neither the new head nor the new seq."""
    unnumbered(user.pk, 1)
    numbering = open_connection()
    numbering.begin()
    numbering.do(streams.number_in_transaction, [user.pk])
    assert (position(user), seqs(user)) == ((0, 0), [None])
    numbering.commit()
    assert (position(user), seqs(user)) == ((1, 1), [1])


def test_concurrent_creation_of_a_stream(open_connection, user, assigned_seqs):
    """Of two transactions that create one stream, the second waits for the first and continues its seqs."""
    first, second = open_connection(), open_connection()
    first.begin()
    first.do(number_inserted, user, "first")
    notifying = second.start(notify, user, "second")
    second.wait_until_blocked()
    first.commit()
    notifying.result(60)
    assert titles(user) == ["first", "second"]
    assert assigned_seqs(user.pk) == [1, 2]


def test_rolled_back_creation_of_a_stream(open_connection, user, assigned_seqs):
    """If the transaction that creates a stream is rolled back, the waiting one creates it and begins at 1."""
    first, second = open_connection(), open_connection()
    first.begin()
    first.do(number_inserted, user, "rolled back")
    notifying = second.start(notify, user, "second")
    second.wait_until_blocked()
    first.roll_back()
    notifying.result(60)
    assert titles(user) == ["second"]
    assert assigned_seqs(user.pk) == [1]


def test_streams_are_locked_in_one_order(open_connection, users, deadlocks):
    """Two numberings of the same users, given in opposite orders, do not deadlock."""
    user_keys = users(60)
    for _ in range(20):
        for user in user_keys:
            unnumbered(user, 1)
        first, second = open_connection(), open_connection()
        steps = [first.start(streams.number, user_keys), second.start(streams.number, user_keys[::-1])]
        for step in steps:
            step.result(60)
    assert deadlocks() == 0
    assert_consistent(user_keys)


@pytest.mark.parametrize("lock", ["FOR UPDATE", "FOR NO KEY UPDATE"])
def test_locked_user_row_delays_no_notifications(lock, open_connection, user):
    """A project's lock on a user row does not block notifications, because no foreign key to it is checked."""
    project = open_connection()
    project.begin()
    table = get_user_model()._meta.db_table
    project.do(scalar, f"SELECT id FROM {table} WHERE id = %s {lock}", user.pk)
    with lock_timeout():
        notify(user, "note")
        with transaction.atomic():
            notify(user, "another")
        marking.mark(user.pk, "read", 1)
    assert position(user) == (3, 1)
    assert_consistent([user])


def test_user_is_deleted_during_a_notification(open_connection, user):
    """Deleting a user does not wait for an open transaction that notifies them."""
    writer = open_connection()
    writer.begin()
    writer.do(notify, user, "note")
    with lock_timeout():
        user.delete()
    writer.commit()
    assert get_user_model().objects.count() == 0


def test_numbering_does_not_wait_for_key_share_locks(open_connection, user):
    """Numbering does not wait for the key-share lock of a project's row that refers to a notification."""
    (id,) = unnumbered(user.pk, 1)
    project = open_connection()
    project.begin()
    project.do(scalar, "SELECT 1 FROM notifications_notification WHERE id = %s FOR KEY SHARE", id)
    streams.number([user.pk])
    assert seqs(user) == [1]


def test_marking_a_locked_row_fails_after_the_lock_timeout(open_connection, user, monkeypatch):
    """Marking as read fails after waiting 5 s for a locked row; meanwhile the user can be notified."""
    (id,) = notify(user, "locked")
    holder, reader = open_connection(), open_connection()
    holder.begin()
    holder.do(lambda: Notification.objects.select_for_update().get(pk=id))
    reading = reader.start(marking.mark, user.pk, "read", 1)
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
    assert marking.mark(user.pk, "read", 1).next is None
    assert_consistent([user])


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_project_with_another_isolation_level(level, open_connection, users, assigned_seqs):
    """Concurrent notifications do not fail if the project's default isolation level is stricter."""
    first, second = users(2)
    projects = [open_connection() for _ in range(4)]
    for project in projects:
        project.do(scalar, "SELECT set_config('default_transaction_isolation', %s, false)", level)
    steps = [
        project.start(notify_repeatedly, first, second, f"{number}")
        for number, project in enumerate(projects)
    ]
    for step in steps:
        step.result(60)
    assert assigned_seqs(first) == assigned_seqs(second) == list(range(1, 81))
    assert_consistent([first, second])


def test_transactions_of_the_app_are_read_committed(open_connection, user, monkeypatch):
    """The app's transactions are READ COMMITTED: after waiting for a stream, numbering must see what was committed."""
    levels = []

    def note_level():
        levels.append(scalar("SHOW transaction_isolation"))

    project = open_connection()
    project.do(scalar, "SELECT set_config('default_transaction_isolation', 'serializable', false)")
    with preceded("notifications_stream", note_level):
        project.do(notify, user, "note")
    assert levels == ["read committed"]
    assert project.do(scalar, "SHOW transaction_isolation") == "serializable"


@pytest.fixture
def deadlocks(transactional_db):
    """deadlocks() returns the number of deadlocks in the database since the test began."""
    sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = scalar(sql)

    def count():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
        return scalar(sql) - before

    return count


class lock_timeout:
    """A context in which waiting for a lock fails after two seconds."""

    def __enter__(self):
        scalar("SELECT set_config('lock_timeout', '2s', false)")

    def __exit__(self, *error):
        scalar("SELECT set_config('lock_timeout', '0', false)")


def number_inserted(user, title):
    """Insert and number in the open transaction, as a transaction of the app does."""
    build_notification(user.pk, title).save(force_insert=True)
    streams.number_in_transaction([user.pk])
    assert Stream.objects.get(pk=user).head == 1


def notify_repeatedly(first, second, title):
    for _ in range(10):
        notify([first, second], title)
        with transaction.atomic():
            notify([second, first], title)
