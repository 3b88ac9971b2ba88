"""A worker of Celery is suspended until its tasks count as lost, and goes on: their real ends correct that, once."""

from pathlib import Path

import pytest

from notifications.models import Attempt, Job, Notification
from tests.contrib.celery.conftest import broker, celery_app, start_celery, until_row  # noqa: F401
from tests.faults.support.freezing import frozen
from tests.support.celery_worker import database_url
from tests.support.outcomes import error_type
from tests.support.waiting import wait_until

#: A guess before a worker is suspended would be corrected too. In CI a process may not run for seconds.
LONG_LEASE = {"LEASE": 10}


def suspended(worker):
    """Suspend a worker and its child processes."""
    return frozen([worker.pid, *worker.children()], database_url())


def until_guessed(ids, kind):
    """Wait until the jobs have failed by a guess of this kind, and their owners are notified."""

    def have_failed():
        jobs = Job.objects.filter(id__in=ids)
        return all(job.done and job.seq for job in jobs)

    wait_until(have_failed, timeout=60, every=0.5, what="the guess")
    assert {error_type(job) for job in Job.objects.filter(id__in=ids)} == {kind}


def assert_corrected(jobs, user, workers):
    """Check that each job has its real end, and that its owner was notified of the guess and once of the end."""
    ended = Job.objects.filter(id__in=jobs, state="succeeded", seq__gt=0)
    wait_until(lambda: ended.count() == len(jobs), timeout=60, what="the real ends")
    for id in jobs:
        assert sum(worker.output.count(f"Corrected a guess: job {id}") for worker in workers) == 1
        told = Notification.objects.filter(user=user, job=id).order_by("id")
        assert [(row.level, row.archived_at is None) for row in told] == [("error", False), ("success", True)]


@pytest.mark.timeout(240)
def test_worker_that_is_suspended_while_it_runs_a_task(start_celery, celery_app, user, tmp_path):  # noqa: F811
    from tests.contrib.celery import tasks

    path = tmp_path / "gate"
    workers = [start_celery(notifications=LONG_LEASE) for _ in range(2)]
    result = tasks.hold.delay(user.pk, str(path))
    job = until_row(result, state="running")
    wait_until(Path(f"{path}.started").exists, what="the task to run")
    child = int(Path(f"{path}.started").read_text())
    [running] = [worker for worker in workers if child in (worker.pid, *worker.children())]
    with suspended(running):
        until_guessed([job.id], "outcome-unknown")
    path.touch()
    assert_corrected([job.id], user, workers)
    assert Attempt.objects.get().outcome == "lost"
