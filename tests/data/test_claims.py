"""Claims and their ends while other transactions hold locks on jobs."""

import pytest
from django.db import connection

from notifications.jobs.claiming import claim_queries, queues, sources
from notifications.jobs.claiming.sources import Source
from notifications.jobs.transitions import recording
from notifications.management import pause_queue
from notifications.models import Job, uuid7
from tests.data.rows import job
from tests.support.claims import claim_rows
from tests.support.outcomes import succeeded


@pytest.mark.parametrize("key", ["", "key"])
def test_locked_jobs_are_skipped(on_postgresql, open_connection, key):
    """Jobs that another transaction has locked are skipped, the next ones are claimed, and unlocked ones later."""
    pause_queue("other")
    locked = [job(None).pk for _ in range(claim_queries.EXTRA_ROWS_READ)]
    unlocked = [job(None, concurrency_key=key).pk for _ in range(2)]
    other_connection = open_connection()
    other_connection.begin()
    other_connection.do(lambda: list(Job.objects.filter(pk__in=locked).select_for_update(no_key=True)))
    assert [claimed.pk for claimed in claim_rows(uuid7(), 3)] == unlocked[: 1 if key else 2]
    other_connection.roll_back()
    assert [claimed.pk for claimed in claim_rows(uuid7(), 3)] == locked[:3]


@pytest.mark.parametrize("executors", [{"sync": 2}, {"async": 2, "sync": 1, "quarantined": 1}])
@pytest.mark.parametrize("query", ["of queues", "of all queues"])
def test_claim_locks_only_the_jobs_it_takes(on_postgresql, open_connection, query, executors):
    """A claim locks only the jobs it takes, so that others can claim the rest at the same time."""
    names = sources.names_of(Source(queues=("default", "second")))
    for executor in executors:
        for name in ("default", "second", "default", "second"):
            Job.objects.filter(pk=job(None).pk).update(queue_name=name, executor=executor)
    jobs = Job.objects.count()
    other_connection = open_connection()
    other_connection.begin()

    def lock():
        sql, params = (
            claim_queries.first_jobs_of_queues("id, concurrency_key", 2, names, executors)
            if query == "of queues"
            else claim_queries.first_jobs_of_all_queues(2, executors, queues.queue_limits())
        )
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            return len(cursor.fetchall())

    assert other_connection.do(lock) == 2
    assert len(claim_rows(uuid7(), 100)) == jobs - 2


@pytest.mark.parametrize("has_paused_queue", [False, True])
def test_locked_jobs_of_an_executor_are_skipped(on_postgresql, open_connection, has_paused_queue):
    """Jobs of an executor that another worker is claiming are skipped, so that two workers share them."""
    if has_paused_queue:
        pause_queue("other")
    jobs = [job(None).pk for _ in range(6)]
    other_connection = open_connection()
    other_connection.begin()
    other_connection.do(lambda: list(Job.objects.filter(pk__in=jobs[:3]).select_for_update(no_key=True)))
    claimed = claim_rows(uuid7(), 10, executors={"async": 10, "sync": 2, "quarantined": 1})
    assert [row.pk for row in claimed] == jobs[3:5]


def test_outcome_of_a_locked_job_is_not_void(on_postgresql, open_connection):
    """It is recorded later; the others of its group are recorded now."""
    rows = [job(None) for _ in range(2)]
    group = [succeeded(row) for row in claim_rows(uuid7(), 2)]
    other_connection = open_connection()
    other_connection.begin()
    other_connection.do(lambda: list(Job.objects.filter(pk=rows[0].pk).select_for_update(no_key=True)))
    assert recording.record_outcomes(group) == ([group[1]], [])
    other_connection.roll_back()
    assert recording.record_outcomes(group[:1]) == ([group[0]], [])
