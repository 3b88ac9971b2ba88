"""Notifications of ends that follow from what their readers have done themselves: they are read when they are made."""

import uuid

import pytest

from notifications.api import batch, policy, task
from notifications.jobs import retry
from notifications.models import Notification, Stream
from notifications.testing import run_jobs

pytestmark = [pytest.mark.database_law, pytest.mark.django_db(transaction=True)]

#: Whether the task fails, and the level of what it notifies of.
state = {}


@pytest.fixture(autouse=True)
def failing(jobs_clock):
    state.update(fails=True, level="success")
    return state


@task
@policy(max_attempts=1, notify=lambda job: {} if job.state == "failed" else {"level": state["level"]})
def fetch():
    if state["fails"]:
        raise OSError


def fail(owner):
    """Return the id of a job of a user that has failed, and works from now on. Its failure is read."""
    id = uuid.UUID(fetch.using(owner=owner).enqueue().id)
    run_jobs()
    state["fails"] = False
    return id


def unread_levels(user):
    stream = Stream.objects.get(user=user)
    levels = [row.level for row in Notification.objects.filter(user=user, read_at=None, archived_at=None)]
    assert len(levels) == stream.unread
    return levels


def test_what_follows_from_an_own_retry_is_read(user):
    job = fail(user)
    assert retry([job], by=user.pk) == [job] and run_jobs() == 1
    newest = Notification.objects.get(user=user, archived_at=None)
    assert newest.level == "success" and newest.read_at is not None and newest.seq
    assert unread_levels(user) == []


def test_what_fails_again_is_unread(user, failing):
    job = fail(user)
    failing["fails"] = True
    retry([job], by=user.pk)
    run_jobs()
    assert unread_levels(user) == ["error"]


def test_what_warns_is_unread(user, failing):
    job = fail(user)
    failing["level"] = "warning"
    retry([job], by=user.pk)
    run_jobs()
    assert unread_levels(user) == ["warning"]


@pytest.mark.parametrize("is_known", [True, False])
def test_what_follows_from_the_retry_of_another_is_unread(user, other_user, is_known):
    job = fail(user)
    retry([job], by=other_user.pk if is_known else None)
    run_jobs()
    assert unread_levels(user) == ["success"]


def test_what_follows_later_than_within_a_minute_is_unread(user, jobs_clock):
    job = fail(user)
    retry([job], by=user.pk)
    jobs_clock.advance(61)
    run_jobs()
    assert unread_levels(user) == ["success"]


def test_the_end_of_a_batch_that_its_owner_retries_is_read(user):
    with batch(owner=user) as whole:
        fetch.enqueue()
    run_jobs()
    assert unread_levels(user) == ["error"]
    state["fails"] = False
    retry([whole.id], by=user.pk)
    run_jobs()
    assert unread_levels(user) == []


@pytest.mark.parametrize("place", ["api", "page"])
def test_a_retry_by_http_is_that_of_its_user(user, client, place):
    job = fail(user)
    client.force_login(user)
    path = f"/notifications/api/jobs/{job}/retry/" if place == "api" else f"/notifications/jobs/{job}/retry/"
    assert client.post(path).status_code in (202, 303)
    run_jobs()
    assert unread_levels(user) == []
