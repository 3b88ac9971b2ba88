"""What is read and stored of jobs while they run."""

import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.jobs.transitions import running
from notifications.models import Job
from tests.data.conftest import large_tables  # noqa: F401 (a fixture)
from tests.data.plans import can_scan, explain, scans_of
from tests.jobs import tasks
from tests.support.claims import claim_rows

pytestmark = pytest.mark.django_db


def test_the_claims_of_a_worker_are_its_running_jobs(live_worker):
    tasks.noop.enqueue()
    worker = live_worker()
    (job,) = claim_rows(worker, 1)
    assert running.read_claims(worker) == [job]
    Job.objects.update(state="succeeded")
    assert running.read_claims(worker) == []


@pytest.mark.database_law
@pytest.mark.tables("job")
def test_what_a_worker_reads_of_them_every_few_seconds(large_tables, live_worker):  # noqa: F811
    """It is found by an index, and so is what it stores."""
    for _ in range(3):
        tasks.noop.enqueue()
    worker = live_worker()
    jobs = claim_rows(worker, 2)
    Job.objects.filter(id=jobs[0].id).update(cancel_requested_at=timezone.now())
    with CaptureQueriesContext(connection) as queries:
        assert len(running.read_claims(worker)) == 2
        assert [id for id, *_ in running.cancellations_requested(worker)] == [jobs[0].id]
        jobs[0].progress_current = 5
        running.store_progress(jobs)
    statements = [sql for query in queries for sql in query["sql"].split("; ") if can_scan(sql)]
    assert len(statements) >= 2
    assert [sql for sql in statements if scans_of(explain(sql))] == []


@pytest.mark.parametrize(
    "change", [{"fence": 2}, {"state": "queued"}, {"state": "failed"}, {"worker": uuid.uuid4()}]
)
def test_void_claims_change_nothing(live_worker, change):
    """As in test_recording.py."""
    tasks.noop.enqueue()
    [job] = claim_rows(live_worker(), 1)
    Job.objects.update(**change)
    before = Job.objects.values().get()
    job.progress_current = 5
    running.store_progress([job])
    running.extend_deadlines([job], {job.task_path: 1000})
    assert Job.objects.values().get() == before


def test_the_deadline_of_a_task_that_the_worker_meets(live_worker):
    """It may take any time."""
    tasks.noop_sync.enqueue()
    (job,) = claim_rows(live_worker(), 1)
    assert job.deadline - job.started_at == timedelta(seconds=360)
    running.extend_deadlines([job], {job.task_path: None})
    assert Job.objects.get(id=job.id).deadline is None


def test_releasing_claims_whose_answer_was_lost_reads_no_row_for_each(live_worker, django_assert_num_queries):
    for _ in range(3):
        tasks.noop.using(expires=60).enqueue()
    worker = live_worker()
    claim_rows(worker, 3)
    rows = running.read_claims(worker)
    with django_assert_num_queries(0):
        assert {(job.task_path, job.expires_at) for job in rows} == {("tests.jobs.tasks.noop", None)}
