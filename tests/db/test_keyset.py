"""Pages that are read in slices, while other transactions change the rows."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from notifications.db import keyset
from notifications.db.keyset import NEWEST_FIRST
from notifications.models import Job
from tests.data.rows import job

pytestmark = pytest.mark.django_db

START = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def before_statement():
    """before_statement(number, act) executes a statement of the block only after it has called ``act``."""

    def intercept(number, act):
        left = number

        def wrap(execute, *args):
            nonlocal left
            left -= 1
            if left == 0:
                act()
            return execute(*args)

        return connection.execute_wrapper(wrap)

    return intercept


@pytest.fixture
def failed_jobs(set_bounds):
    """Ten failed jobs, newest first, in slices of four."""
    set_bounds(rows=4, searched=40)
    ids = [job(None).pk for _ in range(10)]
    for number, id in enumerate(ids):
        created_at = START - timedelta(minutes=number)
        Job.objects.filter(pk=id).update(created_at=created_at, state="failed", finished_at=START)
    return ids


def read_ids(*, is_complete=False):
    """Return the ids of all failed jobs."""
    failed = Job.objects.filter(state="failed")
    rows = failed.filter(title="Work")
    return keyset.read_page(rows, NEWEST_FIRST, limit=100, slices_of=failed, is_complete=is_complete).ids


@pytest.mark.parametrize(("limit", "has_more"), [(9, True), (10, False), (11, False)])
def test_whether_more_rows_follow_a_page(failed_jobs, limit, has_more):
    page = keyset.read_page(Job.objects.all(), NEWEST_FIRST, limit=limit)
    assert (page.ids, page.has_more) == (failed_jobs[:limit], has_more)


@pytest.mark.parametrize("statement", range(1, 7))
def test_no_row_is_passed_over_when_another_leaves_its_slice(failed_jobs, before_statement, statement):
    """Such as a failed job that is retried by hand while a job retries all of them."""
    leaving, *staying = failed_jobs
    with before_statement(statement, lambda: Job.objects.filter(pk=leaving).update(state="queued")):
        found = read_ids()
    assert [id for id in found if id != leaving] == staying


@pytest.mark.parametrize("statement", range(1, 7))
@pytest.mark.parametrize("place", [1, 6])
def test_no_row_is_found_twice_or_passed_over_when_another_enters_its_slice(
    failed_jobs, before_statement, statement, place
):
    entering = failed_jobs.pop(place)
    Job.objects.filter(pk=entering).update(state="running")
    with before_statement(statement, lambda: Job.objects.filter(pk=entering).update(state="failed")):
        found = read_ids()
    assert [id for id in found if id != entering] == failed_jobs
    assert found.count(entering) <= 1


@pytest.mark.parametrize("statement", range(1, 7))
@pytest.mark.parametrize("minutes", [-1, 1, 5])
def test_no_row_is_passed_over_when_many_enter_its_slice(
    failed_jobs, before_statement, monkeypatch, statement, minutes
):
    """More than the margin, such as the jobs of a large transaction. The slice is read again."""
    monkeypatch.setattr(keyset, "ROWS_ENTERING", 2)
    entering = [job(None).pk for _ in range(5)]

    def enter():
        created_at = START - timedelta(minutes=minutes, seconds=30)
        Job.objects.filter(pk__in=entering).update(created_at=created_at, state="failed", finished_at=START)

    with before_statement(statement, enter):
        found = read_ids(is_complete=True)
    assert [id for id in found if id not in entering] == failed_jobs
    assert len(found) == len(set(found))


def test_rows_that_are_checked_are_bounded(failed_jobs, set_bounds):
    """Also where a slice has more rows. The next page goes on after them."""
    set_bounds(searched=3)
    failed, checked = Job.objects.filter(state="failed"), []
    page = keyset.read_page(
        failed, NEWEST_FIRST, limit=100, slices_of=failed, keep=lambda ids: checked.extend(ids) or ()
    )
    assert checked == failed_jobs[:3]
    assert page.positions == [] and page.stopped_at.values[-1] == failed_jobs[2]
