"""Changes of jobs as `notifications jobs tail` reads them."""

import uuid

import pytest

from notifications.jobs import retry
from notifications.management.subcommands.job_tail import JobChanges
from notifications.models import Job, uuid7
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.conftest import longest_backoff  # noqa: F401 (an autouse fixture)

pytestmark = pytest.mark.django_db(transaction=True)


def insert_jobs(count):
    """Insert jobs as one that is enqueued. Return their ids."""
    job = Job.objects.get(id=tasks.noop.enqueue().id)
    ids = [job.id]
    for _ in range(count - 1):
        ids.append(uuid7())
    fields = {field.attname: getattr(job, field.attname) for field in Job._meta.concrete_fields}
    Job.objects.bulk_create(Job(**{**fields, "id": id}) for id in ids[1:])
    return set(ids)


def test_changes_of_jobs(user, other_user):
    """Each change once, in its order: new, finished and retried jobs."""
    before = tasks.noop.using(owner=user).enqueue().id
    changes = JobChanges()
    changes.read()
    assert changes.read() == ([], False)
    new = tasks.fail.using(owner=other_user).enqueue().id
    assert [(str(job.id), job.state) for job in changes.read()[0]] == [(new, "queued")]
    run_jobs()
    assert sorted((str(job.id), job.state) for job in changes.read()[0]) == sorted(
        [(before, "succeeded"), (new, "failed")]
    )
    retry([uuid.UUID(new)])
    assert [(str(job.id), job.state) for job in changes.read()[0]] == [(new, "queued")]
    assert changes.read() == ([], False)


def test_ids_in_another_order_than_the_jobs():
    """The clock of a machine may be behind that of another one."""
    insert_jobs(501)
    changes = JobChanges()
    changes.read()
    new = tasks.noop.enqueue().id
    Job.objects.filter(id=new).update(id=(small := uuid.UUID(int=5)))
    assert [job.id for job in changes.read()[0]] == [small]


def test_more_changes_than_are_read():
    changes = JobChanges()
    changes.read()
    insert_jobs(501)
    jobs, is_cut = changes.read()
    assert len(jobs) == 500 and is_cut


def test_as_many_changes_as_are_read():
    """They are all of them, also when those jobs are active and change again."""
    changes = JobChanges()
    changes.read()
    ids = insert_jobs(500)
    jobs, is_cut = changes.read()
    assert ({job.id for job in jobs}, is_cut) == (ids, False)
    Job.objects.update(version=99)
    jobs, is_cut = changes.read()
    assert len(jobs) == 500 and not is_cut
