"""Jobs with a key: asked for again, the same one is meant."""

import pickle
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.utils import timezone

from notifications.api import batch
from notifications.compat import task_enqueued
from notifications.exceptions import IdempotencyKeyConflict, TooManyJobs
from notifications.jobs.transitions import manual
from notifications.models import Job
from notifications.signals import rung
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.transitions.test_states import in_threads

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def other(transactional_db):
    return get_user_model().objects.create_user("other")


def ask(*args, task=tasks.echo, key="k", **how):
    return task.using(key=key, **how).enqueue(*args)


@pytest.mark.parametrize("owned", [True, False])
def test_again_it_is_the_same_job(demo, owned):
    """Nothing is inserted, and nobody is rung or told."""
    owner = demo if owned else None
    first = ask(1, owner=owner)
    heard = []

    def hear(**kwargs):
        heard.append(kwargs)

    for signal in (task_enqueued, rung):
        signal.connect(hear)
    try:
        again = ask(1, owner=owner, title="Another title")
    finally:
        for signal in (task_enqueued, rung):
            signal.disconnect(hear)
    assert (again.id, again.enqueued_at, again.status) == (first.id, first.enqueued_at, "READY")
    assert Job.objects.count() == 1 and heard == []


def test_it_is_the_same_one_when_it_is_done():
    first = ask(7)
    run_jobs()
    again = ask(7)
    assert (again.id, again.status, again.return_value) == (first.id, "SUCCESSFUL", 7)


def test_the_key_is_its_owners(demo, other):
    """Somebody else, or nobody, may use the same one."""
    ids = {ask(1, owner=owner).id for owner in (demo, other, None)}
    assert len(ids) == 3


@pytest.mark.parametrize(
    "how", [{"args": (2,)}, {"task": tasks.add, "args": (1, 2)}, {"args": (True,)}, {"args": ("1",)}]
)
def test_for_something_else_it_is_refused(demo, how):
    ask(1, owner=demo)
    with pytest.raises(
        IdempotencyKeyConflict, match="The key 'k' stands for another task or other arguments"
    ) as refused:
        ask(*how.pop("args"), owner=demo, **how)
    assert isinstance(refused.value, ValueError)
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)
    assert Job.objects.count() == 1


def test_the_order_of_named_arguments_does_not_matter():
    task = tasks.add.using(key="k")
    assert task.enqueue(a=1, b=2).id == task.enqueue(b=2, a=1).id


def test_a_day_later_it_is_free(demo):
    """Whoever takes it then gets a new job; the old one stays as it is."""
    first = ask(1, owner=demo)
    assert (
        timedelta(hours=23) < Job.objects.get().idempotency_expires_at - timezone.now() <= timedelta(hours=24)
    )
    Job.objects.update(idempotency_expires_at=timezone.now() - timedelta(seconds=1))
    second = ask(2, owner=demo)
    assert second.id != first.id
    assert ask(2, owner=demo).id == second.id
    assert Job.objects.get(id=first.id).idempotency_key == ""


def test_a_job_that_was_cancelled_keeps_it(demo):
    """It is the same wish; it may be tried again by hand."""
    first = ask(1, owner=demo)
    manual.cancel([Job.objects.get().id], by=demo.pk)
    assert ask(1, owner=demo).id == first.id


def test_a_rollback_frees_it(demo):
    with pytest.raises(RuntimeError), transaction.atomic():
        ask(1, owner=demo)
        raise RuntimeError
    ask(2, owner=demo)
    assert Job.objects.count() == 1


def test_in_a_transaction(demo):
    """What the caller has written before stays, found or not."""
    with transaction.atomic():
        get_user_model().objects.create_user("beside")
        first = ask(1, owner=demo)
        assert ask(1, owner=demo).id == first.id
        with pytest.raises(IdempotencyKeyConflict):
            ask(2, owner=demo)
    assert get_user_model().objects.filter(username="beside").exists()
    assert Job.objects.count() == 1


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("owned", [True, False])
def test_at_once(demo, atomic, owned):
    """Of many that ask at the same time one inserts, and all get its job."""
    ids = []

    def enqueue():
        if atomic:
            with transaction.atomic():
                if connection.vendor == "sqlite":
                    connection.cursor().execute("DELETE FROM notifications_stream WHERE 0")
                ids.append(ask(1, owner=demo if owned else None).id)
        else:
            ids.append(ask(1, owner=demo if owned else None).id)

    in_threads(*[enqueue] * 6)
    assert len(ids) == 6 and len(set(ids)) == 1
    assert Job.objects.count() == 1


def test_the_limit_of_active_jobs_does_not_hide_it(demo, settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
    first = ask(1, owner=demo)
    assert ask(1, owner=demo).id == first.id
    with pytest.raises(TooManyJobs):
        ask(1, owner=demo, key="another")


@pytest.mark.parametrize("key", ["", " ", "a b", "ä", "a\n", "x" * 201, "a\0"])
def test_keys_that_are_refused(key):
    with pytest.raises(ValueError, match="It must be 1 to 200 visible ASCII characters"):
        ask(1, key=key)
    assert not Job.objects.exists()


def test_a_key_that_is_no_text():
    with pytest.raises(TypeError, match="key must be a string, not int"):
        ask(1, key=7)


def test_the_longest_key():
    ask(1, key="~" * 200)


def test_a_job_of_a_batch_takes_none(demo):
    with (
        pytest.raises(ValueError, match="A job of a batch takes no key"),
        batch(owner=demo, title="All"),
    ):
        ask(1)
    assert not Job.objects.exists()


def test_without_a_key_each_is_another():
    assert len({tasks.noop.enqueue().id for _ in range(3)}) == 3
