"""Store the progress of running jobs."""

from django.db import OperationalError

from notifications.jobs.transitions import running
from notifications.models import Job
from notifications.worker.progress_loop import PROGRESS_INTERVAL_SECONDS
from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.support.waiting import wait_until


def test_progress_and_the_end_of_a_job(worker, user, gate):
    """Progress is stored while the job runs, each time with a new version, and at last with the outcome."""
    result = tasks.report_and_hold.using(owner=user).enqueue()
    job = wait_until(lambda: Job.objects.filter(progress_current=1).first(), what="progress")
    assert (job.state, job.progress_total, job.progress_message, job.version) == ("running", 2, "half", 3)
    gate.set()
    (job,) = until_done(result)
    assert (job.progress_current, job.progress_message, job.version) == (2, "all", 4)


def test_progress_during_a_database_outage(worker, monkeypatch, gate):
    """It is stored after the outage, even if the task reports nothing more."""
    tries = iter([OperationalError("away"), OperationalError("away")])
    report = running.store_progress

    def fail_twice(*args):
        for error in tries:
            raise error
        return report(*args)

    monkeypatch.setattr(running, "store_progress", fail_twice)
    tasks.report_and_hold.enqueue()
    job = wait_until(lambda: Job.objects.filter(progress_current=1).first(), what="progress")
    assert job.state == "running"
    gate.set()


def test_frequent_progress_is_written_once_per_interval(worker):
    (job,) = until_done(tasks.count.enqueue(5_000))
    assert (job.progress_current, job.progress_total, job.progress_message) == (5000, 5000, "counting")
    # Three versions are changes of its state, and one is written per interval at most.
    assert job.version <= 4 + (job.finished_at - job.started_at).total_seconds() / PROGRESS_INTERVAL_SECONDS
