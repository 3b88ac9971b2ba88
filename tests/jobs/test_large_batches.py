"""Batches of thousands of jobs."""

import pytest

from notifications.api import batch, join
from notifications.exceptions import JobFailed
from tests.jobs import tasks
from tests.jobs.batch_rows import row
from tests.jobs.conftest import notifications_of

pytestmark = pytest.mark.nightly_on_postgres


def test_two_thousand_jobs(start_worker, user):
    """One in five fails: the counts add up, and there is one notification."""
    start_worker()
    with batch(owner=user, title="Many") as b:
        for number in range(2_000):
            tasks.one_in_five_fails.enqueue(number)
    with pytest.raises(JobFailed, match=r"^1600 of 2000 done, 400 failed$"):
        join(b, timeout=100)
    assert [note.title for note in notifications_of(user)] == ["Many"]
    assert (row(b).progress_current, row(b).progress_total) == (2_000, 2_000)
