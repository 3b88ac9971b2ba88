"""Insertion of one row."""

import pytest

from notifications.db import insertion
from notifications.models import Job
from tests.db.test_bulk import job, rows, values

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("condition", ["", "1 = %s"])
def test_one_inserted_row_is_what_the_orm_reads(condition):
    """Also where the defaults are not sent, or the row has others."""
    made = rows()
    for row in made:
        assert insertion.insert_one(row, condition=condition, params=[1] if condition else [])
    stored = {row.pk: row for row in Job.objects.all()}
    assert [values(stored[row.pk]) for row in made] == [values(row) for row in made]
    assert not any(row._state.adding for row in made)


def test_a_condition_that_does_not_hold():
    row = job()
    assert not insertion.insert_one(row, condition="1 = %s", params=[2])
    assert row._state.adding and not Job.objects.exists()
