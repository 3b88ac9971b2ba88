"""Read, claim and finish the jobs of batches, for the tests of batches."""

import uuid

from notifications.models import Job
from tests.support.claims import claim_rows
from tests.support.outcomes import failed, record, succeeded


def row(b):
    """Return the row of a batch."""
    return Job.objects.get(id=b.id)


def jobs_of(b):
    """Return the jobs of a batch, oldest first."""
    return Job.objects.filter(batch=b.id).order_by("id")


def claim_all():
    """Claim at most 100 jobs for a new worker, and return them."""
    return claim_rows(uuid.uuid4(), 100)


def end(job, *, succeeds=True):
    """Record that a claimed job succeeded or failed, as a worker does."""
    assert record(succeeded(job, 1) if succeeds else failed(job))
