"""The process that records what the child processes of a Celery worker send."""

import os
import signal
from pathlib import Path

import pytest
from django.db import connection

from notifications.models import Attempt, Job
from tests.contrib.celery.conftest import bell_of, until_ended, until_row
from tests.faults.support.freezing import is_stopped
from tests.support.waiting import wait_until


@pytest.fixture
def tasks(celery_app):
    from tests.contrib.celery import tasks

    return tasks


#: Ends the sessions of processes that are suspended in a transaction, as PostgreSQL does by itself after 10 s.
END_IDLE_TRANSACTIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND state = 'idle in transaction' AND pid <> pg_backend_pid()
"""


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


@pytest.mark.database_law
def test_a_record_is_tried_again_after_a_suspension(start_celery, tasks, user):
    """The process goes on after the time for which it would try again, and finds its transaction ended."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite ends no transaction of a process that is suspended.")
    worker = start_celery("--pool", "prefork", "--concurrency", 1, app="tests.contrib.celery.suspended_app")
    [pid] = worker.recording_pids()
    result = tasks.export.apply_async((user.pk, 2026), ignore_result=True)
    wait_until(lambda: is_stopped(pid), what="the recording process to stop")
    with connection.cursor() as cursor:
        cursor.execute(END_IDLE_TRANSACTIONS)
        assert cursor.fetchall() == [(True,)]
    os.kill(pid, signal.SIGCONT)
    # Without its record the reconciler would end the job later, as one that was never started.
    assert until_ended(result, timeout=20).state == "succeeded"
    assert "records given up" not in worker.output
    assert len(bell_of(user)) == 1
