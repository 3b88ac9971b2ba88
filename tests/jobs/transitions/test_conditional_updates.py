"""Changes of jobs are conditional on their claims."""

import uuid

import pytest

from notifications.jobs.transitions import conditional_updates
from notifications.models import Job
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
