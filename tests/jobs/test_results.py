"""Find the tasks of jobs."""

import pytest
from django.utils.module_loading import import_string

from notifications.jobs.results import MOVED_TASKS, find_task
from notifications.models import Job
from notifications.testing import run_jobs


@pytest.mark.parametrize("path", MOVED_TASKS)
def test_a_job_of_an_earlier_version_finds_its_task(path):
    """Rows keep the path that a task had when they were inserted."""
    assert find_task(path) is import_string(MOVED_TASKS[path])
    assert find_task(path).module_path == MOVED_TASKS[path]


@pytest.mark.django_db
def test_a_job_of_an_earlier_version_runs(user):
    """Of a broadcast that is gone: the task is called, and refuses it."""
    path = "notifications.broadcasts.sending.send_broadcast"
    find_task(path).using(owner=user).enqueue(title="Hello", broadcast="0" * 32, url="/")
    moved = {new: old for old, new in MOVED_TASKS.items()}
    Job.objects.update(task_path=moved[path])
    run_jobs()
    job = Job.objects.get()
    assert job.state == Job.State.FAILED
    assert "The broadcast was deleted." in job.attempts.last().traceback
