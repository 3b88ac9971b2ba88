"""A worker has scheduled jobs join the queue when they are due."""

import statistics
import time
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from notifications.models import Job
from notifications.worker import due_jobs
from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.support.statements import refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.database_law


def bulk_schedule(count, due_at, owner=None):
    """Insert jobs that are due at a time."""
    now = timezone.now()
    common = {
        "title": "Due",
        "task_path": "tests.jobs.tasks.noop",
        "backend": "default",
        "queue_name": "default",
        "executor": "async",
        "user_id": getattr(owner, "pk", None),
        "created_at": now,
        "queued_at": now,
        "run_after": due_at,
        "due_at": due_at,
    }
    Job.objects.bulk_create([Job(**common) for _ in range(count)])


def test_a_job_begins_when_it_is_due(worker, set_bounds):
    """Not at the next poll, of the queue or of scheduled jobs."""
    set_bounds(polls=600)
    until_done(tasks.noop.enqueue())
    late = []
    for _ in range(5):
        result = tasks.noop.using(run_after=timezone.now() + timedelta(seconds=0.02)).enqueue()
        (job,) = until_done(result)
        late.append((job.started_at - job.run_after).total_seconds())
    assert all(seconds >= 0 for seconds in late)
    assert statistics.median(late) < 0.5


def test_jobs_join_while_no_slot_is_free(start_worker, gate):
    """The timer goes on, chunk after chunk, though nothing can be claimed."""
    start_worker(concurrency=1)
    holding = tasks.hold.enqueue()
    wait_until(lambda: tasks.held, what="the slot to be taken")
    bulk_schedule(1_000, timezone.now() + timedelta(seconds=0.2))
    wait_until(lambda: not Job.objects.filter(due_at__isnull=False).exists(), what="all to join the queue")
    assert Job.objects.filter(state="queued", due_at=None).count() == 1_000
    gate.set()
    until_done(holding)


@pytest.mark.long
def test_jobs_begin_between_the_chunks(start_worker, monkeypatch):
    """A job of another owner does not wait until all that are due have joined the queue."""
    flooder, other = [get_user_model().objects.create(username=name) for name in ("ada", "ben")]
    chunks, results = [], []
    queue_chunk = due_jobs.queue_due_jobs

    def count_chunks():
        chunks.append(time.monotonic())
        if len(chunks) == 2:
            results.append(tasks.noop.using(owner=other).enqueue())
        return queue_chunk()

    monkeypatch.setattr(due_jobs, "queue_due_jobs", count_chunks)
    bulk_schedule(3_000, timezone.now(), flooder)
    start_worker(concurrency=2)
    wait_until(lambda: results, what="the second chunk")
    (job,) = until_done(*results)
    assert Job.objects.filter(due_at__isnull=False).exists() or len(chunks) >= 15
    ended = job.finished_at
    wait_until(lambda: not Job.objects.filter(due_at__isnull=False).exists(), what="all to join the queue")
    begun_before = Job.objects.filter(user=flooder, started_at__lt=ended).count()
    assert begun_before < 1_000, "It waited for the flood."


@pytest.mark.django_db(transaction=True)
def test_a_worker_until_idle_runs_what_is_due():
    """Also what has not joined the queue when it starts, and not what is due later."""
    bulk_schedule(250, timezone.now() - timedelta(seconds=1))
    bulk_schedule(1, timezone.now() + timedelta(hours=1))
    call_command("run_jobs", "--until-idle")
    assert Job.objects.filter(state="succeeded").count() == 250
    assert Job.objects.get(state="queued").due_at > timezone.now()


def test_a_worker_goes_on_when_the_move_fails(worker):
    with refused("UPDATE notifications_job.* due_at = NULL", times=1, error=ValueError) as failures:
        until_done(tasks.noop.using(run_after=timezone.now() + timedelta(seconds=0.05)).enqueue())
    assert failures


def test_two_workers_begin_each_job_once(start_worker):
    for _ in range(2):
        start_worker(concurrency=20)
    with transaction.atomic():
        bulk_schedule(500, timezone.now() + timedelta(seconds=0.3))
    wait_until(lambda: Job.objects.filter(state="succeeded").count() == 500, what="the jobs to end")
    assert set(Job.objects.values_list("fence", "attempt")) == {(1, 1)}
    assert connection.vendor == "sqlite" or Job.objects.values("worker").distinct().count() == 2
