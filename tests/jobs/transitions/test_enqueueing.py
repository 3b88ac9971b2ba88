"""Idempotency keys: to enqueue second with .using(key=…) returns the first job."""

import pickle
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction

from notifications.api import batch
from notifications.exceptions import IdempotencyKeyConflict, TooManyJobs
from notifications.jobs import cancel
from notifications.models import Job
from notifications.signals import rung
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.django_tasks import task_enqueued
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db(transaction=True)


def enqueue(*args, task=tasks.echo, key="k", **options):
    return task.using(key=key, **options).enqueue(*args)


@pytest.mark.parametrize("owned", [True, False])
def test_the_second_enqueue_returns_the_first_job(user, owned):
    """It inserts nothing and sends no signal."""
    owner = user if owned else None
    first = enqueue(1, owner=owner)
    received = []

    def receive(**kwargs):
        received.append(kwargs)

    for signal in (task_enqueued, rung):
        signal.connect(receive)
    try:
        second = enqueue(1, owner=owner, title="Another title")
    finally:
        for signal in (task_enqueued, rung):
            signal.disconnect(receive)
    assert (second.id, second.enqueued_at, second.status) == (first.id, first.enqueued_at, "READY")
    assert Job.objects.count() == 1 and received == []


def test_a_done_job_keeps_its_key():
    first = enqueue(7)
    run_jobs()
    second = enqueue(7)
    assert (second.id, second.status, second.return_value) == (first.id, "SUCCESSFUL", 7)


def test_each_owner_has_keys_of_their_own(user, other_user):
    """Jobs of other users, and jobs without an owner, may use the same key."""
    ids = {enqueue(1, owner=owner).id for owner in (user, other_user, None)}
    assert len(ids) == 3


@pytest.mark.parametrize(
    "options", [{"args": (2,)}, {"task": tasks.add, "args": (1, 2)}, {"args": (True,)}, {"args": ("1",)}]
)
def test_another_task_or_other_arguments_are_refused(user, options):
    enqueue(1, owner=user)
    with pytest.raises(
        IdempotencyKeyConflict, match="The key 'k' was used for another task or other arguments"
    ) as refused:
        enqueue(*options.pop("args"), owner=user, **options)
    assert isinstance(refused.value, ValueError)
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)
    assert Job.objects.count() == 1


def test_the_order_of_keyword_arguments_does_not_matter():
    task = tasks.add.using(key="k")
    assert task.enqueue(a=1, b=2).id == task.enqueue(b=2, a=1).id


def test_a_key_expires_after_a_day(user, jobs_clock):
    """A new job gets the key, and the old job loses it. Hosts compare the clock of the database, not their own ones."""
    first = enqueue(1, owner=user)
    jobs_clock.advance(timedelta(hours=23, minutes=59))
    assert enqueue(1, owner=user).id == first.id
    jobs_clock.advance(timedelta(minutes=2))
    second = enqueue(2, owner=user)
    assert second.id != first.id
    assert enqueue(2, owner=user).id == second.id
    assert Job.objects.get(id=first.id).idempotency_key == ""


def test_a_cancelled_job_keeps_its_key(user):
    """It may still be retried manually."""
    first = enqueue(1, owner=user)
    cancel([Job.objects.get().id], by=user.pk)
    assert enqueue(1, owner=user).id == first.id


def test_a_rollback_frees_the_key(user):
    with pytest.raises(RuntimeError), transaction.atomic():
        enqueue(1, owner=user)
        raise RuntimeError
    enqueue(2, owner=user)
    assert Job.objects.count() == 1


def test_in_a_callers_transaction(user, make_user):
    """What the caller wrote before is kept, whether the key is found, new or refused."""
    with transaction.atomic():
        make_user("beside")
        first = enqueue(1, owner=user)
        assert enqueue(1, owner=user).id == first.id
        with pytest.raises(IdempotencyKeyConflict):
            enqueue(2, owner=user)
    assert get_user_model().objects.filter(username="beside").exists()
    assert Job.objects.count() == 1


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("owned", [True, False])
def test_concurrent_inserts(user, atomic, owned):
    """One of them inserts, and all return its job."""
    ids = []

    def enqueue_concurrently():
        if atomic:
            with transaction.atomic():
                if connection.vendor == "sqlite":
                    connection.cursor().execute("DELETE FROM notifications_stream WHERE 0")
                ids.append(enqueue(1, owner=user if owned else None).id)
        else:
            ids.append(enqueue(1, owner=user if owned else None).id)

    run_in_threads(*[enqueue_concurrently] * 6)
    assert len(ids) == 6 and len(set(ids)) == 1
    assert Job.objects.count() == 1


def test_the_limit_of_active_jobs_does_not_refuse_an_existing_job(user, settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
    first = enqueue(1, owner=user)
    assert enqueue(1, owner=user).id == first.id
    with pytest.raises(TooManyJobs):
        enqueue(1, owner=user, key="another")


@pytest.mark.parametrize("key", ["", " ", "a b", "ä", "a\n", "x" * 201, "a\0"])
def test_invalid_keys_are_refused(key):
    with pytest.raises(ValueError, match="It must be 1 to 200 visible ASCII characters"):
        enqueue(1, key=key)
    assert not Job.objects.exists()


def test_a_key_that_is_no_string():
    with pytest.raises(TypeError, match="key must be a string, not int"):
        enqueue(1, key=7)


def test_the_longest_key():
    enqueue(1, key="~" * 200)


def test_a_job_of_a_batch_takes_no_key(user):
    with (
        pytest.raises(ValueError, match="A job of a batch takes no key"),
        batch(owner=user, title="All"),
    ):
        enqueue(1)
    assert not Job.objects.exists()


def test_without_a_key_each_job_is_new():
    assert len({tasks.noop.enqueue().id for _ in range(3)}) == 3
