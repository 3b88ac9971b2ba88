"""Workers that are killed, brokers that lose messages, a database that is away: each task ends on the bell once."""

import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from django.db import connection

from notifications.models import Attempt, Worker
from tests.contrib.celery.conftest import bell_of, until_ended, until_row
from tests.support.outcomes import error_type
from tests.support.waiting import wait_until


@pytest.fixture
def tasks(celery_app):
    from tests.contrib.celery import tasks

    return tasks


def until_running(result, path):
    until_row(result, state="running")
    wait_until(Path(f"{path}.started").exists, what="the task to run")


def test_a_killed_worker(start_celery, tasks, user, tmp_path):
    """The next worker on the same machine finds out."""
    path = tmp_path / "gate"
    worker = start_celery()
    result = tasks.hold.delay(user.pk, str(path))
    until_running(result, path)
    worker.kill()
    start_celery()
    job = until_ended(result)
    assert (job.state, error_type(job)) == ("failed", "outcome-unknown")
    assert len(bell_of(user)) == 1


@pytest.mark.usefixtures("prefork")
def test_a_killed_child_whose_message_is_delivered_again(start_celery, tasks, user, tmp_path):
    """Celery sends no signal of it: the main process finds that the child is gone."""
    path = tmp_path / "gate"
    start_celery()
    result = tasks.hold_late.delay(user.pk, str(path))
    until_running(result, path)
    os.kill(int(Path(f"{path}.started").read_text()), signal.SIGKILL)
    path.touch()
    job = until_ended(result)
    assert (job.state, job.fence) == ("succeeded", 2)
    assert bell_of(user) == [("Held, late", "Succeeded.", "success")]


@pytest.mark.usefixtures("prefork")
def test_a_cold_shutdown(start_celery, tasks, user, tmp_path):
    """Celery reports a retry, although it has acknowledged the message. The next worker finds out."""
    path = tmp_path / "gate"
    worker = start_celery()
    result = tasks.hold.delay(user.pk, str(path))
    until_running(result, path)
    worker.process.popen.send_signal(signal.SIGQUIT)
    wait_until(lambda: not worker.process.running, what="the worker to end")
    start_celery()
    job = until_ended(result)
    assert (job.state, error_type(job)) == ("failed", "outcome-unknown")
    assert len(bell_of(user)) == 1


@pytest.mark.usefixtures("prefork")
def test_tasks_that_exit_at_once(start_celery, tasks, user):
    """The main process hears of the end of a child while the child records the start of its task."""
    start_celery()
    results = [tasks.exit_process.delay(user.pk) for _ in range(12)]
    jobs = [until_ended(result, timeout=15) for result in results]
    assert {(job.state, '"type": "worker-lost"' in job.error) for job in jobs} == {("failed", True)}
    assert len(bell_of(user)) == 12


@pytest.mark.usefixtures("prefork")
def test_a_killed_worker_whose_task_is_delivered_again(start_celery, tasks, user, tmp_path):
    """Redis does so after the visibility timeout: 5 s here."""
    path = tmp_path / "gate"
    worker = start_celery()
    result = tasks.hold_late.delay(user.pk, str(path))
    until_running(result, path)
    worker.kill()
    path.touch()
    start_celery()
    job = until_ended(result, timeout=90)
    assert (job.state, job.fence) == ("succeeded", 2)
    assert [attempt.outcome for attempt in Attempt.objects.filter(job=job)] == ["lost"]
    assert bell_of(user) == [("Held, late", "Succeeded.", "success")]


@pytest.mark.usefixtures("prefork")
def test_messages_that_the_broker_loses(start_celery, tasks, user, broker):
    """They are queued until the time that the declaration or Celery names."""
    lost = tasks.export.delay(user.pk, 1)
    expiring = [
        tasks.export.apply_async((user.pk, 2), expires=3),
        tasks.soon.delay(user.pk),
    ]
    broker.kill()
    broker.start()
    start_celery()
    for result in expiring:
        job = until_ended(result)
        assert (job.state, error_type(job)) == ("failed", "expired")
    assert until_row(lost).state == "queued"
    assert len(bell_of(user)) == 2


@pytest.mark.usefixtures("prefork")
def test_a_worker_that_stops_lets_its_tasks_end(start_celery, tasks, user, tmp_path):
    path = tmp_path / "gate"
    worker = start_celery()
    result = tasks.hold.delay(user.pk, str(path))
    until_running(result, path)
    observing = Worker.objects.filter(queues="celery:celery")
    wait_until(lambda: observing.count() == 1, what="the row of the worker")
    worker.process.popen.terminate()
    worker.process.wait_for_line("Warm shutdown")
    path.touch()
    assert until_ended(result).state == "succeeded"
    wait_until(lambda: not worker.process.running, what="the worker to end")
    assert not observing.exists()
    assert len(bell_of(user)) == 1


def test_a_database_that_is_away_does_not_keep_a_task_from_running(start_celery, tasks, user, tmp_path):
    """What could not be recorded is recorded when the database is back."""
    if connection.vendor != "sqlite":
        pytest.skip("The lock of SQLite stands for the outage.")
    path = tmp_path / "gate"
    start_celery()
    result = tasks.hold.delay(user.pk, str(path))
    until_running(result, path)
    with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        path.touch()
        assert result.get(timeout=30) == "released"
        started = time.monotonic()
        other = tmp_path / "other"
        other.touch()
        assert tasks.hold.delay(user.pk, str(other)).get(timeout=30) == "released"
        assert time.monotonic() - started < 10
        writer.execute("ROLLBACK")
    assert until_ended(result).state == "succeeded"
    wait_until(lambda: len(bell_of(user)) == 2, what="both notifications")


@pytest.mark.usefixtures("prefork")
def test_children_that_end_after_each_task(start_celery, tasks, user):
    """Each waits until what it has to report is recorded: nothing else knows it without a result."""
    start_celery("--pool", "prefork", "--concurrency", 2, "--max-tasks-per-child", 1)
    results = [tasks.export.apply_async((user.pk, year), ignore_result=True) for year in range(6)]
    assert {until_ended(result, timeout=30).state for result in results} == {"succeeded"}
    assert len(bell_of(user)) == 6


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_other_pools(start_celery, tasks, user, pool):
    start_celery("--pool", pool, "--concurrency", 2)
    results = [tasks.export.delay(user.pk, year) for year in range(4)] + [tasks.retried.delay(user.pk, 1)]
    assert [until_ended(result).state for result in results] == ["succeeded"] * 5
    assert len(bell_of(user)) == 5
