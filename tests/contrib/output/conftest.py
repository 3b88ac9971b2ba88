"""Fixtures of the folders whose parts these tests use."""

import pytest

from notifications.models import Job
from tests.data.rows import job as make_job
from tests.http.conftest import asgi, user_client  # noqa: F401 (fixtures)
from tests.jobs.conftest import *  # noqa: F403 (fixtures)


@pytest.fixture
def job(user):
    """A running job."""
    job = make_job(user, state="running")
    Job.objects.filter(pk=job.pk).update(fence=1, attempt=1)
    return Job.objects.get(pk=job.pk)


@pytest.fixture
def small_parts(monkeypatch):
    """Readers get 10 kB at once."""
    monkeypatch.setattr("notifications.contrib.output.reading.MAX_PART_BYTES", 10_000)


@pytest.fixture
def path(job):
    return f"jobs/{job.pk}/output/"
