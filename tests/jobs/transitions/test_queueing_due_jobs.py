"""Scheduled jobs join the queue when they are due, with the place of a new job."""

from datetime import timedelta
from functools import partial

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.utils import timezone

from notifications.extension import Where
from notifications.jobs.transitions import queueing
from notifications.jobs.transitions.queueing import queue_due_jobs
from notifications.models import Job, Queue, Wait, uuid7
from notifications.testing import clock, run_jobs
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.outcomes import release, schedule_retries
from tests.support.threads import run_in_threads

pytestmark = [pytest.mark.database_law, pytest.mark.django_db]

MINUTE = timedelta(minutes=1)


@pytest.fixture
def people(db):
    return [get_user_model().objects.create(username=name) for name in ("ada", "ben")]


@pytest.fixture(autouse=True)
def own_clock(set_bounds):
    set_bounds(known=0)
    yield
    clock.reset()


def schedule(owner=None, count=1, task=tasks.noop, **options):
    """Enqueue jobs for a minute from now, and return their ids."""
    task = task.using(owner=owner, run_after=timezone.now() + MINUTE, **options)
    return [task.enqueue().id for _ in range(count)]


def claimed_ids(count):
    return [str(job.id) for job in claim_rows(uuid7(), count)]


def test_a_scheduled_job_joins_the_queue_when_it_is_due(people, rings):
    """It keeps the time that was asked for, its owner and workers are rung, and its version rises."""
    (id,) = schedule(people[0])
    job = Job.objects.get()
    assert (job.due_at, job.turn, job.version) == (job.run_after, 0, 1)
    assert 59 < queue_due_jobs() <= 60 and claimed_ids(1) == []
    clock.advance(61)
    assert claimed_ids(1) == [], "A claim saw a scheduled job."
    rings.clear()
    with transaction.atomic():
        assert queue_due_jobs() == 0
    moved = Job.objects.get()
    assert (moved.due_at, moved.run_after, moved.turn, moved.version) == (None, job.run_after, 1, 2)
    assert moved.share_name == f"user:{people[0].pk}"
    assert queue_due_jobs() is None and claimed_ids(1) == [id]


def test_a_time_that_is_over_is_none(people):
    """A job whose time has come when it is enqueued is in the queue at once."""
    tasks.noop.using(owner=people[0], run_after=timezone.now() - MINUTE).enqueue()
    job = Job.objects.get()
    assert (job.due_at, job.turn) == (None, 1) and job.run_after < timezone.now()


def test_jobs_join_in_chunks(people, set_bounds):
    """Those first that are due longest; each chunk behind what its share has in the queue."""
    set_bounds(rows=100)
    ids = schedule(people[0], 250)
    first, ids = ids[200:], [*ids[200:], *ids[:200]]
    Job.objects.filter(id__in=first).update(due_at=timezone.now() + MINUTE / 2)
    clock.advance(61)
    sizes = []
    while queue_due_jobs() == 0:
        sizes.append(Job.objects.filter(due_at=None).count())
    assert sizes == [100, 200, 250]
    assert [str(id) for id in Job.objects.order_by("turn").values_list("id", flat=True)] == ids
    assert set(Job.objects.values_list("turn", flat=True)) == set(range(1, 251))


@pytest.mark.parametrize("kind", ["single", "due"])
def test_a_flood_that_is_due_takes_turns(people, kind):
    """What another owner enqueues, or has due, begins before the second job of the flood from now on."""
    schedule(people[0], 300)
    clock.advance(61)
    while queue_due_jobs() == 0:
        pass
    claimed_ids(3)
    if kind == "single":
        id = tasks.noop.using(owner=people[1]).enqueue().id
    else:
        (id,) = schedule(people[1])
        clock.advance(61)
        assert queue_due_jobs() == 0
    assert id in claimed_ids(2)


def test_what_has_just_become_due_does_not_wait_for_a_flood(people):
    """Jobs of others join with the first chunk, though 300 were due before them."""
    schedule(people[0], 300)
    ids = schedule(people[1], 2)
    Job.objects.filter(id__in=ids).update(due_at=timezone.now() + 1.5 * MINUTE)
    clock.advance(100)
    assert queue_due_jobs() == 0
    assert set(ids) <= {str(id) for id in Job.objects.filter(due_at=None).values_list("id", flat=True)}
    while queue_due_jobs() == 0:
        pass
    assert Job.objects.filter(user=people[0]).values("turn").distinct().count() == 300


@pytest.mark.parametrize("newer", [0, 300], ids=["one flood", "two floods"])
def test_what_is_due_amid_a_flood_does_not_wait_for_it(people, newer):
    """All are due at once. The first chunk has jobs of each share, wherever they stand, and of each of its rows."""
    schedule(people[0], 300)
    ids = schedule(people[1], 2)
    elsewhere = [
        *schedule(people[0], priority=1),
        *schedule(people[0], queue_name="reports"),
        *schedule(people[0], task=tasks.noop_sync),
    ]
    schedule(people[0], 300)
    schedule(task=tasks.noop_sync, count=newer)
    Job.objects.update(due_at=timezone.now())
    assert queue_due_jobs() == 0
    moved = {str(id) for id in Job.objects.filter(due_at=None).values_list("id", flat=True)}
    assert moved & {*ids} and {*elsewhere} <= moved
    assert queue_due_jobs() == 0
    assert not Job.objects.filter(id__in=ids, due_at__isnull=False).exists()
    assert Job.objects.filter(due_at__isnull=False).count() > 100


def test_a_priority_counts_when_it_is_due(people):
    schedule(people[0], 3)
    (urgent,) = schedule(people[0], priority=5)
    tasks.noop.using(owner=people[1]).enqueue()
    clock.advance(61)
    assert queue_due_jobs() == 0
    assert claimed_ids(1) == [urgent]


def test_jobs_of_a_paused_queue_join_it(people):
    schedule(people[0])
    Queue.objects.create(name="default", paused_at=timezone.now())
    clock.advance(61)
    assert queue_due_jobs() == 0 and Job.objects.get().due_at is None and claimed_ids(1) == []


@pytest.mark.parametrize("where", [Where.SERVER, Where.ENGINE])
def test_processes_without_a_worker_do_it_as_a_duty(people, where):
    schedule(people[0], 250)
    clock.advance(61)
    run_duty("queue jobs that are due", where)
    assert not Job.objects.filter(due_at__isnull=False).exists()


@pytest.mark.parametrize("change", ["retry", "wait", "reaped", "released"])
def test_what_is_queued_again_without_a_time_is_in_the_queue(people, change, live_worker):
    """A retry without a delay, and a wait that has ended, are behind the others of their share."""
    owner = people[0]
    first = tasks.noop.using(owner=owner).enqueue().id
    tasks.noop.using(owner=owner).enqueue()
    [row] = claim_rows(live_worker(-1 if change == "reaped" else 60), 1)
    assert str(row.id) == first
    if change == "retry":
        schedule_retries([row], 0)
    elif change == "wait":
        Job.objects.filter(id=first).update(state="waiting", worker=None)
        now = timezone.now()
        Wait.objects.create(
            job=row.id, name="w", kind="pause", attempt=1, created_at=now, due_at=now, is_awaited=True
        )
        run_duty("end waits that are due")
    elif change == "reaped":
        run_duty("take jobs from lost workers")
    else:
        release(row)
    job = Job.objects.get(id=first)
    assert (job.state, job.due_at) == ("queued", None)
    assert job.turn == (3 if change in ("retry", "wait") else 1)


def test_a_retry_with_a_delay_is_scheduled(people):
    tasks.busy.using(owner=people[0]).enqueue(1)
    assert run_jobs() == 1
    job = Job.objects.get()
    assert job.due_at == job.run_after > timezone.now()
    clock.advance(3600)
    assert run_jobs() == 1 and Job.objects.get().state == "succeeded"


def test_calls_with_a_queued_key_join_and_leave_the_queue(people):
    """The call that is enqueued last says when the job runs."""
    task = tasks.noop.using(owner=people[0], queued_key="report")
    tasks.noop.using(owner=people[0]).enqueue()
    task.using(run_after=timezone.now() + MINUTE).enqueue()
    job = Job.objects.filter(due_at__isnull=False).get()
    task.enqueue()
    job.refresh_from_db()
    assert (job.due_at, job.run_after, job.turn) == (None, None, 2)
    task.enqueue()
    job.refresh_from_db()
    assert job.turn == 2
    later = timezone.now() + MINUTE
    task.using(run_after=later).enqueue()
    job.refresh_from_db()
    assert (job.due_at, job.run_after) == (later, later)


@pytest.mark.django_db(transaction=True)
def test_several_processes_move_each_job_once(people):
    """They pass over rows that others hold, and none waits."""
    schedule(people[0], 400)
    clock.advance(61)

    def move():
        while queue_due_jobs() == 0:
            pass

    run_in_threads(*[move] * 4)
    assert set(Job.objects.values_list("version", "due_at")) == {(2, None)}


@pytest.mark.django_db(transaction=True)
def test_a_job_that_another_transaction_holds_does_not_stop_the_others(people):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no locks of rows.")
    ids = schedule(people[0], 3)
    clock.advance(61)
    with transaction.atomic():
        Job.objects.select_for_update().get(id=ids[0])
        run_in_threads(partial(queue_due_jobs))
    assert Job.objects.filter(due_at=None).count() == 2
    with transaction.atomic():
        Job.objects.select_for_update().get(id=ids[0])
        results = []
        run_in_threads(lambda: results.append(queue_due_jobs()))
    assert results == [queueing.LOCKED_PAUSE_SECONDS]
