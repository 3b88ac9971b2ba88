"""Jobs of engines, and what a test does with them."""

import uuid

from notifications.ids import uuid7
from notifications.jobs import outcomes
from notifications.jobs.declaring.policies import DEFAULT_POLICY
from notifications.jobs.transitions import claims, recording
from notifications.models import Job
from tests.jobs import tasks


def enqueue(task=tasks.noop, **options):
    return Job.objects.get(pk=task.using(**options).enqueue().id)


def executor_of(job):
    job.refresh_from_db()
    return job.executor


def claim(*jobs):
    """Claim jobs by their ids and return the rows of those that were claimed."""
    claimed, _ = claims.claim_dispatched_jobs(uuid7(), [job.pk for job in jobs])
    return [job.row for job in claimed]


def make_older(job, seconds):
    """Have a job be enqueued so much earlier, and return it."""
    older = uuid.UUID(int=job.pk.int - (int(seconds * 1000) << 80))
    Job.objects.filter(pk=job.pk).update(id=older)
    return Job.objects.get(pk=older)


def finish(job):
    recording.record_outcomes([outcomes.succeeded(job, DEFAULT_POLICY, None)])
