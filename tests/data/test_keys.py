"""Keys: when a notification is numbered, older unread ones of the user with the same key are archived."""

import pytest
from django.db import transaction

from notifications import streams, times
from notifications.api import notify
from notifications.models import Notification, Stream
from notifications.streams import build_notification, marking
from tests.data.conftest import scalar
from tests.data.rows import unnumbered
from tests.data.shapes import assert_consistent, position, titles

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


def test_older_notification_is_archived(user, assigned_seqs):
    """The older one is archived with a new seq and the same raised, and only the newer one counts as unread."""
    (older,) = notify(user, "half done", key="export")
    (newer,) = notify(user, "done", key="export")
    older, newer = (Notification.objects.get(pk=id) for id in (older, newer))
    assert (older.raised, older.seq, older.archived_at is None) == (1, 2, False)
    assert (newer.raised, newer.seq, newer.archived_at) == (3, 3, None)
    assert position(user) == (3, 1)
    assert assigned_seqs(user.pk) == [1, 2, 3]
    assert_consistent([user])


def test_read_notification_is_not_archived(user):
    """An older notification that was read is not archived."""
    (read,) = notify(user, "read", key="export")
    marking.mark(user.pk, "read", 1)
    notify(user, "new", key="export")
    assert Notification.objects.get(pk=read).archived_at is None
    assert titles(user, archived_at=None) == ["read", "new"]


def test_read_notification_of_the_same_pass_is_not_archived(user):
    """As one whose category the user has muted."""
    with transaction.atomic():
        (read,) = notify(user, "read", key="k")
        Notification.objects.filter(pk=read).update(read_at=times.now())
        notify(user, "new", key="k")
    assert titles(user, archived_at=None) == ["read", "new"]
    assert_consistent([user])


def test_other_keys_and_other_users_are_not_archived(users):
    """Notifications with another key, without a key, or of another user are not archived."""
    first, second = users(2)
    for owner, key in ((first, "a"), (first, "b"), (first, ""), (second, "a")):
        notify(owner, f"{key or 'no key'}", key=key)
    notify(first, "newer", key="a")
    notify(first, "also no key")
    assert titles(first, archived_at=None) == ["b", "no key", "newer", "also no key"]
    assert titles(second, archived_at=None) == ["a"]
    assert_consistent([first, second])


def test_same_key_in_one_transaction(user, assigned_seqs):
    """Of several notifications of one transaction with the same key, all but the last are archived."""
    notify(user, "before", key="k")
    with transaction.atomic():
        for number in range(3):
            notify(user, f"note {number}", key="k")
    assert titles(user, archived_at=None) == ["note 2"]
    assert position(user)[1] == 1
    assert assigned_seqs(user.pk) == list(range(1, position(user)[0] + 1))
    assert_consistent([user])


def test_same_key_in_several_passes(user, assigned_seqs):
    """Notifications numbered by one pass are archived by the next pass that numbers the same key."""
    unnumbered(user.pk, 450, key="k")
    streams.number_pending()
    assert titles(user, archived_at=None) == ["left 449"]
    assert assigned_seqs(user.pk) == list(range(1, position(user)[0] + 1))
    assert_consistent([user])


def test_older_notification_without_seq(user, assigned_seqs):
    """An older notification that itself waits for a seq is archived and numbered once."""
    (older,) = notify(user, "older", key="k")
    Notification.objects.filter(pk=older).update(seq=None)
    notify(user, "newer", key="k")
    assert titles(user, archived_at=None) == ["newer"]
    assert assigned_seqs(user.pk) == [1, 2, 3]
    assert_consistent([user])


def test_numbered_row_that_changed_replaces_none(user):
    """It waits for another seq, with a higher id than the new one, which was created before it and committed later."""
    newer = build_notification(user.pk, "newer", key="k")
    (numbered,) = notify(user, "numbered", key="k")
    Notification.objects.filter(pk=numbered).update(seq=None)
    newer.save(force_insert=True)
    streams.number_pending()
    assert titles(user, archived_at=None) == ["newer"]
    assert_consistent([user])


def test_last_committed_is_the_newer(open_connection, user, on_postgresql):
    """The notification that is committed last is the newer one, even if its id is lower."""
    slow = open_connection()
    slow.begin()
    slow.do(notify, user, "began first", key="k")
    notify(user, "committed first", key="k")
    slow.commit()
    assert titles(user, archived_at=None) == ["began first"]
    assert_consistent([user])


@pytest.mark.parametrize("ending", ["commit", "roll_back"])
def test_locked_older_row_delays_only_the_newer_one(
    ending, open_connection, user, assigned_seqs, on_postgresql
):
    """While the older row is locked, the newer one stays unnumbered and all others are numbered; later both are."""
    (older,) = notify(user, "older", key="k")
    holder = open_connection()
    holder.begin()
    holder.do(lock_row, older)
    (newer,) = notify(user, "newer", key="k")
    notify(user, "other")
    unnumbered(user.pk, 1)
    streams.number_pending()
    assert Notification.objects.get(pk=newer).seq is None
    assert titles(user, seq__gt=0) == ["older", "other", "left 0"]
    getattr(holder, ending)()
    streams.number_pending()
    assert titles(user, archived_at=None) == ["other", "left 0", "newer"]
    assert assigned_seqs(user.pk) == [1, 2, 3, 4, 5]
    assert_consistent([user])


def test_older_row_is_marked_as_read_during_numbering(open_connection, user, on_postgresql):
    """Marking the older row as read while the newer one is numbered leaves neither without a seq."""
    (older,) = notify(user, "older", key="k")
    numbering, reader = open_connection(), open_connection()
    numbering.begin()
    numbering.do(lambda: list(Stream.objects.select_for_update().filter(pk=user.pk)))
    reading = reader.start(marking.mark, user.pk, "read", 1)
    reader.wait_until_blocked()  # it has locked and marked the row, and waits for the stream
    assert numbering.do(notify_in_transaction, user, "newer") is None
    numbering.commit()
    reading.result(60)
    assert titles(user, archived_at=None) == ["older", "newer"]
    assert Notification.objects.get(pk=older).read_at is not None
    assert_consistent([user])


def test_many_rows_that_wait_for_a_locked_row_delay_no_others(
    open_connection, users, assigned_seqs, on_postgresql
):
    """250 notifications that wait for one locked row delay neither other notifications nor other users."""
    first, second = users(2)
    (older,) = notify(first, "older", key="k")
    holder = open_connection()
    holder.begin()
    holder.do(lock_row, older)
    unnumbered(first, 250, key="k")
    unnumbered(first, 1)
    unnumbered(second, 1)
    streams.number_pending()
    assert titles(first, seq__gt=0) == ["older", "left 0"]
    assert titles(second, seq__gt=0) == ["left 0"]
    holder.roll_back()
    streams.number_pending()
    assert titles(first, archived_at=None) == ["left 0", "left 249"]
    assert assigned_seqs(first) == list(range(1, position(first)[0] + 1))
    assert_consistent([first, second])


def lock_row(id):
    """Lock a row, as code of a project might."""
    Notification.objects.select_for_update().get(pk=id)


def notify_in_transaction(user, title):
    """Insert and number in the open transaction, as recording an outcome does. Returns the seq of the row."""
    row = build_notification(user.pk, title, key="k")
    row.save(force_insert=True)
    streams.number_in_transaction([user.pk])
    return scalar("SELECT seq FROM notifications_notification WHERE id = %s", row.pk)
