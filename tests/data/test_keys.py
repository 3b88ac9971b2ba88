"""A newer notification with the same key archives the unread older ones, as it is numbered."""

import pytest
from django.db import connection, transaction

from notifications import streams
from notifications.api import notify
from notifications.models import Notification
from notifications.streams import inbox
from notifications.streams.numbering import Pass
from tests.data.conftest import scalar
from tests.data.rows import unnumbered
from tests.data.shapes import assert_orderly, position, titles

pytestmark = pytest.mark.database_law


def test_the_older_one_is_archived(user, given):
    """It moves on as any changed row does; raised stays, and only the newer one counts."""
    (older,) = notify(user, "half done", key="export")
    (newer,) = notify(user, "done", key="export")
    older, newer = (Notification.objects.get(pk=id) for id in (older, newer))
    assert (older.raised, older.seq, older.archived_at is None) == (1, 2, False)
    assert (newer.raised, newer.seq, newer.archived_at) == (3, 3, None)
    assert position(user) == (3, 1)
    assert given(user.pk) == [1, 2, 3]
    assert_orderly([user])


def test_one_that_was_read_stays(user):
    """What was seen is history, and is left where it is."""
    (seen,) = notify(user, "seen", key="export")
    inbox.mark(user.pk, "read", 1)
    notify(user, "new", key="export")
    assert Notification.objects.get(pk=seen).archived_at is None
    assert titles(user, archived_at=None) == ["seen", "new"]


def test_other_keys_and_other_users_stay(users):
    """A key means something for one user only, and no key is no key."""
    first, second = users(2)
    for owner, key in ((first, "a"), (first, "b"), (first, ""), (second, "a")):
        notify(owner, f"{key or 'no key'}", key=key)
    notify(first, "newer", key="a")
    notify(first, "also no key")
    assert titles(first, archived_at=None) == ["b", "no key", "newer", "also no key"]
    assert titles(second, archived_at=None) == ["a"]
    assert_orderly([first, second])


def test_several_of_one_transaction(user, given):
    """Of those that are numbered together the last one stays, and only it counts."""
    notify(user, "before", key="k")
    with transaction.atomic():
        for number in range(3):
            notify(user, f"note {number}", key="k")
    assert titles(user, archived_at=None) == ["note 2"]
    assert position(user)[1] == 1
    assert given(user.pk) == list(range(1, position(user)[0] + 1))
    assert_orderly([user])


def test_more_than_one_pass_of_the_same_key(user, given):
    """What was numbered by the pass before is archived by the next one."""
    unnumbered(user.pk, 450, key="k")
    streams.number_pending()
    assert titles(user, archived_at=None) == ["left 449"]
    assert given(user.pk) == list(range(1, position(user)[0] + 1))
    assert_orderly([user])


def test_an_older_one_that_waits_for_its_own_number(user, given):
    """It was changed meanwhile and is numbered once, archived."""
    (older,) = notify(user, "older", key="k")
    Notification.objects.filter(pk=older).update(seq=None)
    notify(user, "newer", key="k")
    assert titles(user, archived_at=None) == ["newer"]
    assert given(user.pk) == [1, 2, 3]
    assert_orderly([user])


def test_one_committed_late_is_the_newer(elsewhere, user, on_postgresql):
    """The order of commits counts, not the order of ids."""
    slow = elsewhere()
    slow.begin()
    slow.do(notify, user, "began first", key="k")
    notify(user, "committed first", key="k")
    slow.commit()
    assert titles(user, archived_at=None) == ["began first"]
    assert_orderly([user])


@pytest.mark.parametrize("ending", ["commit", "roll_back"])
def test_a_locked_older_row_keeps_the_newer_one_waiting(ending, elsewhere, user, given, on_postgresql):
    """Numbering waits for no row: the new one keeps its NULL, everything else goes on, and later both are numbered."""
    (older,) = notify(user, "older", key="k")
    holder = elsewhere()
    holder.begin()
    holder.do(hold, older)
    (newer,) = notify(user, "newer", key="k")
    notify(user, "other")
    assert Notification.objects.get(pk=newer).seq is None
    assert titles(user, seq__gt=0) == ["older", "other"]
    getattr(holder, ending)()
    streams.number_pending()
    assert titles(user, archived_at=None) == ["other", "newer"]
    assert given(user.pk) == [1, 2, 3, 4]
    assert_orderly([user])


def test_whoever_reads_the_older_row_numbers_both(elsewhere, user, on_postgresql):
    """Reading holds the row while the newer one is numbered; afterwards nothing waits, and both are told."""
    (older,) = notify(user, "older", key="k")
    numbering, reader = elsewhere(), elsewhere()
    numbering.begin()
    numbering.do(lambda: Pass(connection.cursor(), connection, [user.pk]).lock_streams())
    reading = reader.start(inbox.mark, user.pk, "read", 1)
    reader.wait_until_blocked()  # it has marked the row, and waits for the stream
    assert numbering.do(notify_here, user, "newer") is None
    numbering.commit()
    reading.result(60)
    assert titles(user, archived_at=None) == ["older", "newer"]
    assert Notification.objects.get(pk=older).read_at is not None
    assert_orderly([user])


def test_many_waiting_for_one_locked_row_stall_nobody(elsewhere, users, given, on_postgresql):
    """However many wait for it: other notifications, and other users, get their numbers."""
    first, second = users(2)
    (older,) = notify(first, "older", key="k")
    holder = elsewhere()
    holder.begin()
    holder.do(hold, older)
    unnumbered(first, 250, key="k")
    unnumbered(first, 1)
    unnumbered(second, 1)
    streams.number_pending()
    assert titles(first, seq__gt=0) == ["older", "left 0"]
    assert titles(second, seq__gt=0) == ["left 0"]
    holder.roll_back()
    streams.number_pending()
    assert titles(first, archived_at=None) == ["left 0", "left 249"]
    assert given(first) == list(range(1, position(first)[0] + 1))
    assert_orderly([first, second])


def hold(id):
    """Lock a row as a host might."""
    Notification.objects.select_for_update().get(pk=id)


def notify_here(user, title):
    """Insert and number in the open transaction, as a finish does. Returns the number that it got."""
    row = inbox.build_notification(user.pk, title, key="k")
    row.save(force_insert=True)
    streams.number_in_transaction([user.pk])
    return scalar("SELECT seq FROM notifications_notification WHERE id = %s", row.pk)
