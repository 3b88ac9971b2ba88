"""The process that records what the child processes of a Celery worker send."""

import os
import signal
from pathlib import Path

import pytest

from notifications.models import Attempt, Job
from tests.contrib.celery.conftest import bell_of, until_ended, until_row
from tests.support.waiting import wait_until


@pytest.fixture
def tasks(celery_app):
    from tests.contrib.celery import tasks

    return tasks


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_recording_process_is_started_again(start_celery, tasks, user, tmp_path):
    """What was sent meanwhile, also the end of a task whose start the killed one has recorded, is not lost."""
    path = tmp_path / "gate"
    worker = start_celery("--pool", "prefork", "--concurrency", 2)
    running = tasks.hold.apply_async((user.pk, str(path)), ignore_result=True)
    until_row(running, state="running")
    [pid] = worker.recording_pids()
    os.kill(pid, signal.SIGKILL)
    path.touch()
    results = [tasks.export.apply_async((user.pk, year), ignore_result=True) for year in range(5)]
    assert {until_ended(result, timeout=30).state for result in [running, *results]} == {"succeeded"}
    assert len(worker.recording_pids()) == 2
    assert not Attempt.objects.filter(job=running.id).exists()
    wait_until(lambda: len(bell_of(user)) == 6, what="the notifications")


def test_it_ends_after_a_killed_worker(start_celery, tasks, user):
    """And records before what the children have sent."""
    worker = start_celery("--pool", "prefork", "--concurrency", 1)
    results = [tasks.export.apply_async((user.pk, year), ignore_result=True) for year in range(5)]
    until_ended(results[-1])
    [pid] = worker.recording_pids()
    os.kill(worker.pid, signal.SIGKILL)  # its children end with it
    wait_until(lambda: not is_alive(pid), timeout=30, what="the recording process to end")
    assert Job.objects.filter(state="succeeded").count() == 5


def test_it_outlives_the_signals_of_a_shutdown(start_celery, tasks, user, tmp_path):
    """A terminal and systemd send them to all processes of a worker, whose tasks go on for a while."""
    path = tmp_path / "gate"
    worker = start_celery("--pool", "prefork", "--concurrency", 1)
    result = tasks.hold.apply_async((user.pk, str(path)), ignore_result=True)
    until_row(result, state="running")
    [pid] = worker.recording_pids()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        os.kill(pid, number)
    worker.process.popen.terminate()
    worker.process.wait_for_line("Warm shutdown")
    path.touch()
    wait_until(lambda: not worker.process.running, timeout=30, what="the worker to end")
    # The main process has waited for it.
    assert Job.objects.get(id=result.id).state == "succeeded"
    assert worker.recording_pids() == [pid]
    assert not is_alive(pid)


def test_results_of_any_length(start_celery, tasks, user):
    """Also those that do not fit in a page of the pipe, or in the row."""
    start_celery("--pool", "prefork", "--concurrency", 2)
    sizes = (10, 5_000, 500_000)
    results = [tasks.long_result.delay(user.pk, size) for size in sizes]
    assert [len(until_ended(result).result) for result in results] == [size + 2 for size in sizes]
    assert until_ended(tasks.long_result.delay(user.pk, 2_000_000)).result == "null"
