"""Claims and their ends while other transactions hold locks on jobs."""

import pytest

from notifications.management import pause_queue
from notifications.models import Job, uuid7
from tests.data.rows import job
from tests.support.claims import claim_rows
from tests.support.outcomes import record, succeeded


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
    assert record(*group) == {(rows[1].id.int, 1)}
    other_connection.roll_back()
    assert record(group[0])
    assert {row.state for row in Job.objects.all()} == {"succeeded"}
