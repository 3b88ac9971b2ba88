"""Queries of claims while other transactions hold locks on jobs."""

import pytest

from notifications.jobs.claiming import claim_queries
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
@pytest.mark.parametrize("queues", [("default", "second"), ()], ids=["of queues", "of all queues"])
def test_claim_locks_only_the_jobs_it_takes(on_postgresql, open_connection, queues, executors):  # noqa: F811
    """A claim locks only the jobs it takes, so that others can claim the rest at the same time."""
    for executor in executors:
        for name in ("default", "second", "default", "second"):
            Job.objects.filter(pk=job(None).pk).update(queue_name=name, executor=executor)
    jobs = Job.objects.count()
    other_connection = open_connection()
    other_connection.begin()
    assert len(other_connection.do(claim_rows, uuid7(), 2, queues=queues, executors=executors)) == 2
    assert len(claim_rows(uuid7(), 100)) == jobs - 2
