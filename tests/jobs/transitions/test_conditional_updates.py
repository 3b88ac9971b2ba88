"""Changes of jobs are conditional on their claims."""

import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications.jobs.transitions import conditional_updates
from notifications.models import ACTIVE, Job
from tests.data.plans import explain
from tests.data.test_plans_of_claims import insert_queued_jobs
from tests.jobs import tasks
from tests.support.claims import claim_rows


@pytest.mark.django_db
@pytest.mark.parametrize("change", [{"fence": 2}, {"state": "queued"}, {"state": "failed"}])
def test_update_of_locked_rows(change):
    """It is conditional on the fence and the state. The worker has been compared when the rows were locked."""
    tasks.noop.enqueue()
    jobs = claim_rows(uuid.uuid4(), 1)
    Job.objects.update(**change)
    before = Job.objects.values().get()
    conditional_updates.update_locked_rows(
        (), [((), job) for job in jobs], assignments=("version = version + 1",)
    )
    assert Job.objects.values().get() == before


@pytest.mark.nightly
@pytest.mark.database_law
@pytest.mark.parametrize("left", [(Job.State.QUEUED,), ACTIVE], ids=["queued", "active"])
def test_locked_rows_are_not_compared_with_each_queued_row(db, left):
    """In a small table, with the statistics of an empty queue."""
    insert_queued_jobs(2_000)
    Job.objects.update(state="succeeded")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    insert_queued_jobs(1_000)
    rows = [((True,), job) for job in Job.objects.filter(state="queued")[:100]]
    with CaptureQueriesContext(connection) as queries:
        conditional_updates.update_locked_rows(("cancelled_by_other",), rows, states=left)
    assert Job.objects.filter(cancelled_by_other=True).count() == 100
    if connection.vendor == "postgresql":
        plan = explain(queries[0]["sql"])
        assert "Join Filter" not in plan, plan
