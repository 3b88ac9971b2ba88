"""Read, claim and finish the jobs of batches, for the tests of batches."""

import uuid

from notifications.jobs.policies import DEFAULT_POLICY
from notifications.jobs.transitions import (
    finishing,
    outcomes,
)
from notifications.models import Job
from tests.support.claims import claim_rows


def row(b):
    return Job.objects.get(id=b.id)


def jobs_of(b):
    return Job.objects.filter(batch=b.id).order_by("id")


def claim_all():
    worker = uuid.uuid4()
    return claim_rows(worker, 100)


def end(job, *, well=True):
    """Finish a claimed job as a worker does."""
    outcome = (
        outcomes.succeeded(job, DEFAULT_POLICY, 1)
        if well
        else outcomes.failed(job, DEFAULT_POLICY, ValueError("broken"))
    )
    finishing.finish_jobs([outcome])
