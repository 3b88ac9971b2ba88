"""Batches of thousands of jobs."""

import pytest

from notifications.api import batch, join
from notifications.exceptions import JobFailed
from tests.jobs import tasks
from tests.jobs.batch_rows import row
from tests.jobs.conftest import notifications_of


def test_ten_thousand_jobs(start_worker, user):
    """One in five fails: the counts add up, and there is one notification."""
    start_worker()
    with batch(owner=user, title="Many") as b:
        for number in range(10_000):
            tasks.one_in_five_fails.enqueue(number)
    with pytest.raises(JobFailed, match=r"^8000 of 10000 done, 2000 failed$"):
        join(b, timeout=100)
    assert [note.title for note in notifications_of(user)] == ["Many"]
    assert (row(b).progress_current, row(b).progress_total) == (10_000, 10_000)
