"""Store the progress of running jobs."""

from django.db import OperationalError

from notifications.jobs.transitions import running
from notifications.jobs.worker.progress_loop import PROGRESS_INTERVAL_SECONDS
from notifications.models import Job
from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.support.waiting import wait_until


def test_progress(worker, demo, gate):
    """It is written while the job runs, with a new version, and its last word with the outcome."""
    result = tasks.report_and_hold.using(owner=demo).enqueue()
    job = wait_until(lambda: Job.objects.filter(progress_current=1).first(), what="progress")
    assert (job.state, job.progress_total, job.progress_message, job.version) == ("running", 2, "half", 3)
    gate.set()
    (job,) = until_done(result)
    assert (job.progress_current, job.progress_message, job.version) == (2, "all", 4)


def test_progress_is_written_when_the_database_is_back(worker, monkeypatch, gate):
    """Also where the task says no more."""
    tries = iter([OperationalError("away"), OperationalError("away")])
    report = running.store_progress

    def away(*args):
        for error in tries:
            raise error
        return report(*args)

    monkeypatch.setattr(running, "store_progress", away)
    tasks.report_and_hold.enqueue()
    job = wait_until(lambda: Job.objects.filter(progress_current=1).first(), what="progress")
    assert job.state == "running"
    gate.set()


def test_progress_costs_one_write_however_often_it_is_said(worker):
    (job,) = until_done(tasks.count.enqueue(5_000))
    assert (job.progress_current, job.progress_total, job.progress_message) == (5000, 5000, "counting")
    # Three of its states, and not more often than every REPORT seconds.
    assert job.version <= 4 + (job.finished_at - job.started_at).total_seconds() / PROGRESS_INTERVAL_SECONDS
