"""Marking an inbox as read: by the request for up to a second, then in the background."""

import pytest
from django.urls import reverse

from notifications import streams
from notifications.api import notify
from notifications.models import Notification
from notifications.streams import changes, inbox, marking, recount
from tests.data.rows import unnumbered

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]

#: Notifications of the user: more than two chunks.
MANY = 250


@pytest.fixture
def user(user):
    """Return the user with MANY unread notifications."""
    unnumbered(user.pk, MANY)
    streams.number([user.pk])
    return user


def unread_rows(user):
    return Notification.objects.filter(user=user, read_at=None)


def test_slow_request_continues_in_the_background(monkeypatch, user_client, user):
    """Rows that the request does not reach in time are marked later; the page says so, and newer ones stay unread."""
    monkeypatch.setattr(marking, "REQUEST_SECONDS", 0)
    assert user_client.post(reverse("notifications:inbox-read"), {"up_to": MANY}).status_code == 303
    assert unread_rows(user).count() == MANY
    notify(user, "Later")
    assert (
        "Marking notifications as read." in user_client.get(reverse("notifications:inbox")).content.decode()
    )
    assert marking.continue_marking(60) is False
    assert [row.title for row in unread_rows(user)] == ["Later"]
    assert (
        "Marking notifications as read."
        not in user_client.get(reverse("notifications:inbox")).content.decode()
    )


def test_quick_request_marks_everything(user_client, user):
    """A request that marks all rows in time leaves nothing to the background."""
    user_client.post(reverse("notifications:inbox-read"), {"up_to": MANY})
    assert not unread_rows(user).exists()
    assert marking.pending_reads(user.pk) == []


def test_unread_count_is_exact_after_each_chunk(user):
    """The unread count is exact after each chunk, because a chunk is numbered in the transaction that marks it."""
    marking.save_pending_read(user.pk, 0, MANY - 50)
    counts = [changes.position(user.pk).unread]
    while marking.continue_marking(0):
        counts.append(changes.position(user.pk).unread)
        assert counts[-1] == unread_rows(user).count()
        assert recount.find_wrong_counts() == {}
    assert counts == [250, 150, 50]


def test_marking_as_unread_during_the_background(user):
    """A notification that the user marks as unread while the background marks the rest stays unread."""
    marking.save_pending_read(user.pk, 0, MANY)
    assert marking.continue_marking(0)
    first = Notification.objects.get(user=user, raised=1)
    inbox.mark(user.pk, "unread", MANY, [first.pk])
    marking.continue_marking(60)
    assert list(unread_rows(user)) == [first]
    marking.mark_all_read(user.pk, MANY)
    assert not unread_rows(user).exists()


def test_earlier_position_does_not_shorten_a_pending_read(user):
    """A second request with an earlier position does not shorten the first."""
    marking.save_pending_read(user.pk, 0, MANY)
    marking.save_pending_read(user.pk, 0, 10)
    assert marking.pending_reads() == [(user.pk, 0, MANY)]


def test_two_users_take_turns(user, other_user):
    """The background marks a chunk of each user in turn, so a large inbox does not delay a small one."""
    notify(other_user, "One")
    marking.save_pending_read(user.pk, 0, MANY)
    marking.save_pending_read(other_user.pk, 0, 1)
    marking.continue_marking(0)
    marking.continue_marking(0)
    assert not unread_rows(other_user).exists()
    assert unread_rows(user).exists()


def test_locked_row_is_marked_once_it_is_unlocked(on_postgresql, open_connection, user):
    """Neither the request nor the background waits for a locked row; it is marked once it is unlocked."""
    holder = open_connection()
    holder.begin()
    locked = Notification.objects.get(user=user, raised=20)
    holder.do(lambda: Notification.objects.select_for_update().get(pk=locked.pk))
    assert marking.mark_all_read(user.pk, MANY) is True
    assert list(unread_rows(user)) == [locked]
    assert marking.continue_marking(60) is False
    holder.roll_back()
    marking.continue_marking(60)
    assert not unread_rows(user).exists()
    assert marking.pending_reads() == []


def test_locked_inbox_does_not_delay_others(on_postgresql, open_connection, user, other_user):
    """A locked row in one inbox does not delay another, even if only one chunk is marked per call."""
    notify(other_user, "One")
    marking.save_pending_read(user.pk, 0, 1)
    marking.save_pending_read(other_user.pk, 0, 1)
    holder = open_connection()
    holder.begin()
    holder.do(lambda: Notification.objects.select_for_update().get(user=user, raised=1))
    marking.continue_marking(0)
    assert not unread_rows(other_user).exists()
    holder.roll_back()
