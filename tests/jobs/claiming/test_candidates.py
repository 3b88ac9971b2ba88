"""The jobs that a worker claims first."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from notifications.extension import Where
from notifications.jobs.claiming import candidates
from notifications.jobs.claiming.candidates import first_jobs
from notifications.management import pause_queue
from notifications.models import Job, uuid7
from notifications.testing import clock
from tests.data.conftest import filled_tables  # noqa: F401 (a fixture)
from tests.data.plans import explain
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.duties import run_duty


@pytest.mark.any_database
def test_priority_then_turn_then_age():
    """Of what several queues and executors have."""
    old, new = Job(id=uuid7(), turn=2), Job(id=uuid7(), turn=2)
    first, urgent = Job(id=uuid7(), turn=1), Job(id=uuid7(), turn=9, priority=5)
    assert first_jobs([new, old, first, urgent], 3) == [urgent, first, old]


def test_names_of_queues_with_due_jobs(db):
    assert not candidates.claimable_queues()
    tasks.noop.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
    assert not candidates.claimable_queues()
    tasks.noop.using(queue_name="reports").enqueue()
    assert candidates.claimable_queues() == [("default", "reports", "async", False)]
    assert claim_rows(uuid7(), 1, queues=["default"]) == []
    assert len(claim_rows(uuid7(), 1, queues=["reports"])) == 1


def test_names_of_queues_by_a_moved_clock(db, request):
    tasks.noop.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
    request.addfinalizer(clock.reset)
    clock.advance(3599)
    run_duty("queue jobs that are due", Where.SERVER)
    assert not candidates.claimable_queues()
    clock.advance(2)
    run_duty("queue jobs that are due", Where.SERVER)
    assert candidates.claimable_queues()


@pytest.mark.django_db(transaction=True)
def test_names_of_queues_below_their_limits(settings):
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"reports": 2}}}}
    for _ in range(3):
        tasks.noop.using(queue_name="reports").enqueue()
    assert len(claim_rows(uuid7(), 1)) == 1
    assert [queue.name for queue in candidates.claimable_queues()] == ["reports"]
    assert len(claim_rows(uuid7(), 1)) == 1
    assert candidates.claimable_queues() == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("key", ["", "key"])
def test_a_queue_paused_between_the_query_and_the_lock(monkeypatch, key):
    """The query that locks the jobs checks again which queues are paused."""
    tasks.noop.using(queue_name="reports", concurrency_key=key).enqueue()
    names = candidates.claimable_queues()
    assert names == [("default", "reports", "async", bool(key))]
    pause_queue("reports")
    monkeypatch.setattr(candidates, "claimable_queues", lambda source, executors: names)
    assert claim_rows(uuid7(), 10) == []
    pause_queue("reports", is_paused=False)
    assert len(claim_rows(uuid7(), 10)) == 1


#: Lines of a plan that looks up the jobs that are in the queue.
LOOKUP_PATTERNS = {
    "sqlite": [
        r"SEARCH notifications_job USING INDEX notifications_job_queued "
        r"\(backend=\? AND queue_name=\? AND executor=\? AND due_at=\?\)"
    ],
    "postgresql": [r"using notifications_job_queued", r"Index Cond: .*queue_name.* AND \(due_at IS NULL\)"],
}


@pytest.mark.database_law
@pytest.mark.tables("job")
@pytest.mark.nightly
def test_claimable_queues_reads_no_scheduled_jobs(filled_tables, django_assert_num_queries):  # noqa: F811
    """The query for claimable queues, which a worker executes at each ring, reads no scheduled jobs."""
    with connection.cursor() as cursor:
        later = f"'{timezone.now() + timedelta(days=1)}'" + "::timestamptz" * (
            connection.vendor == "postgresql"
        )
        cursor.execute(
            f"UPDATE notifications_job SET state = 'queued', seq = 0, due_at = {later}, finished_at = NULL"
        )
        cursor.execute("ANALYZE")
    with django_assert_num_queries(1) as queries:
        assert not candidates.claimable_queues()
    (query,) = queries.captured_queries
    for line in LOOKUP_PATTERNS[connection.vendor]:
        plan = explain(query["sql"].replace("%%", "%"))  # it has no parameters
        assert re.search(line, plan), plan
