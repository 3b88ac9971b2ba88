"""An inbox that is marked as read: for a second by the request, and from then on in the background."""

import pytest
from django.test import Client
from django.urls import reverse

from notifications import streams
from notifications.api import notify
from notifications.models import Notification
from notifications.streams import changes, inbox, marking, recount
from tests.data.rows import unnumbered

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]

#: More than two chunks.
MANY = 250


@pytest.fixture
def user(django_user_model):
    user = django_user_model.objects.create_user("ada")
    unnumbered(user.pk, MANY)
    streams.number([user.pk])
    return user


@pytest.fixture
def person(user):
    client = Client()
    client.force_login(user)
    return client


def unread(user):
    return Notification.objects.filter(user=user, read_at=None)


def test_a_request_ends_in_time_and_the_rest_follows(monkeypatch, person, user):
    """The page says so meanwhile; what comes after the request stays unread."""
    monkeypatch.setattr(marking, "REQUEST_SECONDS", 0)
    assert person.post(reverse("notifications:inbox-read"), {"up_to": MANY}).status_code == 303
    assert unread(user).count() == MANY
    notify(user, "Later")
    assert "Marking notifications as read." in person.get(reverse("notifications:inbox")).content.decode()
    assert marking.continue_marking(60) is False
    assert [row.title for row in unread(user)] == ["Later"]
    assert "Marking notifications as read." not in person.get(reverse("notifications:inbox")).content.decode()


def test_a_request_that_is_quick_leaves_nothing(person, user):
    """The usual one."""
    person.post(reverse("notifications:inbox-read"), {"up_to": MANY})
    assert not unread(user).exists()
    assert marking.pending_reads(user.pk) == []


def test_the_count_is_right_at_each_moment(user):
    """Each chunk is numbered in the transaction that marks it."""
    marking.save_pending_read(user.pk, 0, MANY - 50)
    counts = [changes.position(user.pk).unread]
    while marking.continue_marking(0):
        counts.append(changes.position(user.pk).unread)
        assert counts[-1] == unread(user).count()
        assert recount.find_wrong_counts() == {}
    assert counts == [250, 150, 50]


def test_what_is_marked_as_unread_meanwhile_stays_so(user):
    """It was read by the request, and its reader has changed that since."""
    marking.save_pending_read(user.pk, 0, MANY)
    assert marking.continue_marking(0)
    first = Notification.objects.get(user=user, raised=1)
    inbox.mark(user.pk, "unread", MANY, [first.pk])
    marking.continue_marking(60)
    assert list(unread(user)) == [first]
    marking.mark_all_read(user.pk, MANY)
    assert not unread(user).exists()


def test_another_request_extends_it(user):
    """Never back to an earlier position."""
    marking.save_pending_read(user.pk, 0, MANY)
    marking.save_pending_read(user.pk, 0, 10)
    assert marking.pending_reads() == [(user.pk, 0, MANY)]


def test_two_users_take_turns(user, django_user_model):
    """A large inbox does not hold up a small one."""
    other = django_user_model.objects.create_user("eve")
    notify(other, "One")
    marking.save_pending_read(user.pk, 0, MANY)
    marking.save_pending_read(other.pk, 0, 1)
    marking.continue_marking(0)
    marking.continue_marking(0)
    assert not unread(other).exists()
    assert unread(user).exists()


def test_a_locked_row_is_left_until_it_is_free(on_postgresql, elsewhere, user):
    """Nobody waits for it, neither the request nor the background."""
    holder = elsewhere()
    holder.begin()
    held = Notification.objects.get(user=user, raised=20)
    holder.do(lambda: Notification.objects.select_for_update().get(pk=held.pk))
    assert marking.mark_all_read(user.pk, MANY) is True
    assert list(unread(user)) == [held]
    assert marking.continue_marking(60) is False
    holder.roll_back()
    marking.continue_marking(60)
    assert not unread(user).exists()
    assert marking.pending_reads() == []


def test_a_locked_inbox_does_not_hold_up_others(on_postgresql, elsewhere, user, django_user_model):
    """Also where only one chunk is marked at a time."""
    other = django_user_model.objects.create_user("eve")
    notify(other, "One")
    marking.save_pending_read(user.pk, 0, 1)
    marking.save_pending_read(other.pk, 0, 1)
    holder = elsewhere()
    holder.begin()
    holder.do(lambda: Notification.objects.select_for_update().get(user=user, raised=1))
    marking.continue_marking(0)
    assert not unread(other).exists()
    holder.roll_back()
