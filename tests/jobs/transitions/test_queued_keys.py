"""Queued keys: to enqueue again with .using(queued_key=…) changes the job that has not begun."""

import json
import random
import threading
import time
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.utils import timezone

from notifications.api import batch, get_job, policy, task
from notifications.jobs import cancel, retry
from notifications.models import Job, uuid7
from notifications.testing import clock, run_jobs
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.django_tasks import task_enqueued
from tests.support.outcomes import record, release, succeeded
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE = timedelta(minutes=1)


def enqueue(*args, task=tasks.echo, queued_key="k", **options):
    return task.using(queued_key=queued_key, **options).enqueue(*args)


@task
@policy(title="Index page {page}", concurrency_key="{page}")
def index(page):
    return page


@pytest.mark.parametrize("owned", [True, False])
def test_the_newest_call_replaces_the_queued_one(user, owned):
    """The job keeps its id and place; it has one more version, and no second ``task_enqueued``."""
    owner = user if owned else None
    first = enqueue(1, task=index, owner=owner, url="/1/")
    received = []

    def receive(**kwargs):
        received.append(kwargs)

    task_enqueued.connect(receive)
    try:
        second = enqueue(2, task=index, owner=owner, url="/2/", priority=5)
    finally:
        task_enqueued.disconnect(receive)
    assert (second.id, second.enqueued_at, second.args) == (first.id, first.enqueued_at, [2])
    job = Job.objects.get()
    assert (job.title, job.url, job.priority, job.concurrency_key) == ("Index page 2", "/2/", 5, "2")
    assert (job.version, received) == (2, [])
    assert run_jobs() == 1
    assert get_job(first.id).result == 2


def test_run_after_moves():
    """So a job runs once after the last of many calls."""
    now = timezone.now()
    for number in range(3):
        enqueue(number, run_after=now + (number + 1) * MINUTE)
    try:
        clock.advance(2.5 * MINUTE)
        assert run_jobs() == 0
        clock.advance(MINUTE)
        assert run_jobs() == 1
    finally:
        clock.reset()
    assert json.loads(Job.objects.get().result) == 2


def test_a_call_without_run_after_runs_at_once(rings):
    """It rings: workers would otherwise find it a second later."""
    enqueue(1, run_after=timezone.now() + MINUTE)
    rings.clear()
    enqueue(2)
    assert rings == [True]
    assert run_jobs() == 1


def test_a_job_that_has_begun_is_not_changed():
    """Neither while it runs, nor when it is queued again by a retry or a shutdown, nor when it is done."""
    ids = [enqueue(0).id]
    (running,) = claim_rows(uuid7(), 10)
    ids.append(enqueue(1).id)
    release(running)
    ids.append(enqueue(2).id)
    assert run_jobs() == 2
    ids.append(enqueue(3).id)
    assert ids[1] == ids[2] and len(set(ids)) == 3
    assert [json.loads(job.args) for job in Job.objects.order_by("id")] == [[0], [2], [3]]


def test_a_cancelled_job_loses_its_key(user):
    first = enqueue(1, owner=user)
    cancel([Job.objects.get().id], by=user.pk)
    second = enqueue(1, owner=user)
    assert second.id != first.id
    retry([first.id])
    assert enqueue(1, owner=user).id == second.id


def test_keys_are_those_of_an_owner_and_a_task(user, other_user):
    """The same text is another key for another task, and as ``key``."""
    ids = [enqueue(1, owner=owner).id for owner in (user, other_user, None)]
    ids.append(enqueue(1, task=tasks.noop, owner=user).id)
    ids.append(tasks.echo.using(key="k", owner=user).enqueue(1).id)
    assert len(set(ids)) == 5


def test_a_rollback_undoes_the_change():
    enqueue(1)
    with pytest.raises(RuntimeError), transaction.atomic():
        enqueue(2)
        raise RuntimeError
    assert json.loads(Job.objects.get().args) == [1]


def test_no_job_begins_before_the_caller_has_committed(user):
    """Each call is followed by a run that sees what its transaction has written, by whichever job.

    Without the lock of the row a worker begins the job between the call and its commit, and misses what it wrote.
    """
    User = get_user_model()
    writers = [User.objects.create_user(f"writer {number}", first_name="0") for number in range(4)]
    calls, seen = [], {}
    ended = threading.Semaphore(0)
    count = 30

    def write(writer):
        try:
            for number in range(1, count + 1):
                with transaction.atomic():
                    User.objects.filter(pk=writer.pk).update(first_name=str(number))
                    id = enqueue(writer.pk, number, task=tasks.noop, owner=user).id
                calls.append((id, writer.pk, number))
                time.sleep(
                    random.uniform(0, 0.01)
                )  # else the job is locked by one after the other, and never begins
        finally:
            ended.release()

    def claim():
        left = len(writers)
        while left or Job.objects.filter(state="queued").exists():
            left -= ended.acquire(blocking=False)
            for job in claim_rows(uuid7(), 10):
                seen[str(job.id)] = dict(
                    User.objects.filter(first_name__gt="").values_list("pk", "first_name")
                )

    run_in_threads(claim, *(lambda writer=writer: write(writer) for writer in writers))
    assert len(calls) == count * len(writers)
    assert [(id, pk, number) for id, pk, number in calls if int(seen[id][pk]) < number] == []
    assert len(seen) > 1
    # The arguments of a job are those of one call of it.
    of_jobs = {str(job.id): tuple(json.loads(job.args)) for job in Job.objects.all()}
    assert all((id, *args) in calls for id, args in of_jobs.items())


@pytest.mark.parametrize("owned", [True, False])
def test_concurrent_inserts(user, owned):
    """One of them inserts, and all return its job."""
    ids = []

    def enqueue_one():
        ids.append(enqueue(len(ids), owner=user if owned else None).id)

    run_in_threads(*[enqueue_one] * 6)
    assert len(ids) == 6 and len(set(ids)) == 1
    assert Job.objects.count() == 1


def test_a_worker_skips_a_job_that_a_caller_changes():
    """It waits for no caller."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one lock for the whole file. Run with --database postgres.")
    enqueue(1)
    with transaction.atomic():
        enqueue(2)
        claimed = []
        run_in_threads(lambda: claimed.append(claim_rows(uuid7(), 10)))
        assert claimed == [[]]
    assert [json.loads(job.args) for job in claim_rows(uuid7(), 10)] == [[2]]


def test_a_worker_does_not_wait_for_a_caller():
    """Else its other jobs wait too, as what they report is stored together."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one lock for the whole file. Run with --database postgres.")
    enqueue(1)
    [running] = claim_rows(uuid7(), 10)

    def store():
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '1s'")
        assert record(succeeded(running)), "Its row is locked."

    with transaction.atomic():
        enqueue(2)
        run_in_threads(store)
    assert set(Job.objects.values_list("state", flat=True)) == {"succeeded", "queued"}


@pytest.mark.parametrize("queued_key", ["", "a b", "ä", "x" * 201])
def test_invalid_keys_are_refused(queued_key):
    with pytest.raises(ValueError, match=r"queued_key is .* It must be 1 to 200 visible ASCII characters"):
        enqueue(1, queued_key=queued_key)


def test_a_key_that_is_no_string():
    with pytest.raises(TypeError, match="queued_key must be a string, not int"):
        enqueue(1, queued_key=7)


def test_both_keys_are_refused():
    with pytest.raises(ValueError, match="A job takes key or queued_key, not both"):
        enqueue(1, key="k")


def test_a_job_of_a_batch_takes_no_key(user):
    with (
        pytest.raises(ValueError, match="A job of a batch takes no key"),
        batch(owner=user, title="All"),
    ):
        enqueue(1)
