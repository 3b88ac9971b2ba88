"""Queries of claims while other transactions hold locks on jobs."""

import pytest
from django.db import connection

from notifications.jobs.claiming import claim_queries, queues, sources
from notifications.jobs.claiming.sources import Source
from notifications.management import pause_queue
from notifications.models import Job, uuid7
from tests.data.conftest import assigned_seqs, on_postgresql, open_connection  # noqa: F401 (fixtures)
from tests.data.rows import job
from tests.support.claims import claim_rows


@pytest.mark.parametrize("key", ["", "key"])
def test_locked_jobs_are_skipped(on_postgresql, open_connection, key):  # noqa: F811
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
def test_claim_locks_only_the_jobs_it_takes(on_postgresql, open_connection, query, executors):  # noqa: F811
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
