"""What the app does when people sign out, change or go."""

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction

from notifications import inbox
from notifications.jobs import states
from notifications.models import Job, Notification, Stream
from tests.jobs import tasks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


@pytest.fixture
def user():
    return get_user_model().objects.create_user("ada", password="secret")


def guard(user):
    stream = Stream.objects.filter(user=user).first()
    return stream.guard if stream else 0


def test_signing_out_raises_the_guard(user, client):
    """Once, and nothing else of the stream moves."""
    inbox.put(user, "before")
    client.force_login(user)
    before = guard(user)
    client.logout()
    stream = Stream.objects.get(user=user)
    assert (stream.guard, stream.head, stream.unread) == (before + 1, 1, 1)


@pytest.mark.parametrize("change", [{"password": "other"}, {"is_active": False}])
def test_a_new_password_or_an_end_of_the_account_raises_the_guard(user, change):
    """Saved whole or by field."""
    for name, value in change.items():
        setattr(user, name, value)
    user.save()
    user.save(update_fields=list(change))
    assert guard(user) == 2


def test_signing_in_does_not(user, client):
    """It saves the time of the last sign-in, which ends no session."""
    client.force_login(user)
    user.save(update_fields=["last_login", "first_name"])
    assert guard(user) == 0


def test_a_rolled_back_change_does_not(user):
    """The guard moves after the commit."""
    with pytest.raises(RuntimeError), transaction.atomic():
        user.save()
        raise RuntimeError
    assert guard(user) == 0


def test_what_belongs_to_a_deleted_user_is_purged(user):
    """Notifications, jobs with their attempts, and the stream; after the commit, and nobody else's."""
    other = get_user_model().objects.create_user("bob")
    for person in (user, other):
        inbox.put(person, "hello")
        tasks.add.using(owner=person).enqueue(1, 2)
    with transaction.atomic():
        user.delete()
        assert Notification.objects.count() == 2
    for model in (Notification, Job, Stream):
        assert list(model.objects.values_list("user_id", flat=True)) == [other.pk]


def test_more_than_a_chunk_is_purged(user):
    """Chunk after chunk."""
    for number in range(120):
        inbox.put(user, str(number))
    user.delete()
    assert not Notification.objects.exists()
    assert not Stream.objects.exists()


def test_a_job_that_ends_after_its_user_is_gone_leaves_nothing(user):
    """Its outcome is void."""
    from notifications.ids import uuid7
    from notifications.jobs import outcomes
    from notifications.jobs.policies import DEFAULT

    tasks.add.using(owner=user).enqueue(1, 2)
    (job,) = states.claim(uuid7(), 1)
    user.delete()
    stored, void = states.finish([outcomes.succeeded(job, DEFAULT, 3)])
    assert (stored, len(void)) == ([], 1)
    assert not Notification.objects.exists()
    assert not Stream.objects.exists()
