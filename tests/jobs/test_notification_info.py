"""Reading and marking notifications by the public API."""

from uuid import uuid4

import pytest
from django.db import transaction

from notifications.api import (
    amark_read,
    anotifications_of,
    anotify,
    aunread_count,
    mark_read,
    notifications_of,
    notify,
    unread_count,
)
from notifications.models import Notification, Stream
from notifications.testing import run_jobs
from tests.jobs import tasks

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database_law,
    pytest.mark.nightly_on_old_django,
]


def titles(*args, **options):
    return [info.title for info in notifications_of(*args, **options)]


def test_what_a_user_has(user, other_user):
    """The newest first, as copies of what was passed to notify()."""
    assert (notifications_of(user), unread_count(user)) == ([], 0)
    [first] = notify(user, "First", body="Text", url="/x/", level="error", category="a", data={"n": [1]})
    notify([user.pk, other_user], "Second")
    second, found = notifications_of(user)
    assert second.title == "Second"
    assert (found.id, found.user_id, found.body, found.url) == (first, user.pk, "Text", "/x/")
    assert (found.level, found.category, found.data, found.job_id) == ("error", "a", {"n": [1]}, None)
    assert found.is_unread and found.created_at.tzinfo and found.archived_at is found.snoozed_until is None
    assert (unread_count(user), unread_count(other_user)) == (2, 1)
    assert titles(user, limit=1) == ["Second"]
    assert titles(user, category="a") == ["First"]


def test_the_job(user):
    result = tasks.noop.using(owner=user).enqueue()
    assert run_jobs() == 1
    [info] = notifications_of(user)
    assert str(info.job_id) == result.id


def test_marking(user, other_user):
    """Some, then all: only those of this user, numbered, so that pages show it."""
    ids = [notify([user, other_user], f"Number {n}")[0] for n in range(3)]
    mark_read(user, [ids[0], uuid4()])
    assert (unread_count(user), unread_count(other_user)) == (2, 3)
    assert titles(user, unread=True) == ["Number 2", "Number 1"]
    head = Stream.objects.get(user=user).head
    mark_read(user.pk)
    assert (unread_count(user), titles(user, unread=True)) == (0, [])
    assert Stream.objects.get(user=user).head > head
    assert not Notification.objects.filter(seq=None).exists()
    assert unread_count(other_user) == 3


def test_archived(user, user_client):
    ids = [notify(user, title)[0] for title in ("Kept", "Done")]
    body = {"ids": [str(ids[1])], "up_to": 2}
    user_client.post("/notifications/api/notifications/archive/", body, "application/json")
    assert (titles(user), titles(user, archived=True)) == (["Kept"], ["Done"])
    assert unread_count(user) == 1


def test_all_in_chunks(user, set_marking):
    set_marking(MAX_MARKED_ROWS=3)
    for n in range(8):
        notify(user, f"Number {n}")
    mark_read(user)
    assert unread_count(user) == 0


def test_in_a_transaction(user):
    """What is created in it is not read; what is marked in it is marked after its commit."""
    notify(user, "Before")
    with transaction.atomic():
        notify(user, "Inside")
        assert (titles(user), unread_count(user)) == (["Before"], 1)
        mark_read(user)
        assert unread_count(user) == 1
    assert (titles(user), unread_count(user)) == (["Inside", "Before"], 0)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        notify(user, "Lost")
        mark_read(user)
        raise ZeroDivisionError
    assert titles(user) == ["Inside", "Before"]


async def test_async(user):
    await anotify(user, "Hello")
    [info] = await anotifications_of(user)
    assert (info.title, await aunread_count(user)) == ("Hello", 1)
    await amark_read(user, [info.id])
    assert await aunread_count(user) == 0


def test_wrong_arguments(user):
    with pytest.raises(ValueError, match=r"limit is 0. It must be an integer of 1 or more"):
        notifications_of(user, limit=0)
    with pytest.raises(ValueError, match="is not a saved user"):
        unread_count(None)
