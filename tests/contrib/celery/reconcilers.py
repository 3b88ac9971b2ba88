"""Fixtures: a reconciler in this process, and jobs of observed tasks for it."""

import uuid
from datetime import timedelta

import pytest

from notifications import times
from notifications.models import Job
from notifications.worker.lease import Lease

TASK = "tests.contrib.celery.tasks.export"


@pytest.fixture
def reconcile():
    from notifications.contrib.celery import reconcile

    return reconcile


@pytest.fixture
def lease(transactional_db, monkeypatch):
    """The lease of a worker, which may end the jobs of others."""
    lease = Lease(queues=["celery:celery"], concurrency=0, load=lambda: 0)
    lease._insert_row()
    monkeypatch.setattr(lease, "may_reap", lambda: True)
    yield lease
    lease.stop()


@pytest.fixture
def reconciler(reconcile, lease, celery_app, broker):
    """A reconciler in this process, where no task runs. No worker of Celery is alive, and the broker is empty."""
    with celery_app.connection_for_read() as connection:
        connection.channel().client.flushall()
    return reconcile.Reconciler(celery_app, "nobody@nowhere", lease)


@pytest.fixture
def make_job(user):
    """make_job(**fields) inserts the job of an observed task."""

    def make(**fields):
        now = times.now()
        values = {
            "id": uuid.uuid4(),
            "user_id": user.pk,
            "task_path": TASK,
            "title": "Export",
            "executor": "observed",
            "queue_name": "celery",
            "state": "queued",
            "created_at": now,
            "queued_at": now,
            "check_at": now - timedelta(seconds=1),
            **fields,
        }
        if values["state"] == "running":
            values = {
                "attempt": 1,
                "fence": 1,
                "started_at": now,
                "worker": uuid.uuid4(),
                **values,
                "check_at": None,
            }
        return Job.objects.create(**values)

    return make


def overdue():
    """Return the columns of a job whose message was not found for a while, and is to be looked for."""
    now = times.now()
    return {"check_at": now, "missing_since": now - timedelta(seconds=9)}


def problem(job):
    job.refresh_from_db()
    return job.state, (job.error or "").partition('"type": "')[2].partition('"')[0]
