"""`manage.py run_jobs`: its options, and its end by a signal."""

import os
import re
import signal
from functools import partial

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from notifications.models import Job
from tests.jobs import tasks
from tests.support.processes import Process
from tests.support.statements import refused
from tests.support.waiting import wait_until


@pytest.mark.parametrize("number", ["0", "-3"])
def test_concurrency_must_be_positive(number):
    with pytest.raises(CommandError, match=rf"--concurrency is {number}. It must be 1 or more."):
        call_command("run_jobs", f"--concurrency={number}")


@pytest.mark.parametrize("name", ["reprots", ""])
def test_a_queue_that_is_not_in_the_settings(settings, name):
    """A worker of this queue would wait forever, because no job can be enqueued in it."""
    settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["default", "reports"]}}
    words = re.escape(f"There is no queue {name!r}. The queues in TASKS are: default, reports.")
    with pytest.raises(CommandError, match=words):
        call_command("run_jobs", "--queue", "reports", "--queue", name)


def test_the_help_describes_sigterm(capsys):
    with pytest.raises(SystemExit):
        call_command("run_jobs", "--help")
    assert "SIGTERM" in capsys.readouterr().out


@pytest.mark.smoke
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_runs_jobs_until_a_signal(site, number):
    """It obeys --concurrency and --queue, prints its start and end, and exits with 0 after each of these signals."""
    site.environment["EMBEDDED_WORKER"] = "0"
    worker = site.start_worker("--concurrency", "7", "--queue", "default", "--queue", "reports")
    assert site.rows("SELECT concurrency, queues FROM notifications_worker") == [(7, "default,reports")]
    site.python("from tests.jobs.tasks import *; noop.enqueue(); noop.using(queue_name='other').enqueue()")
    wait_until(
        lambda: site.rows("SELECT state FROM notifications_job ORDER BY id") == [("succeeded",), ("queued",)],
        what="the job of its queue to be done",
    )
    worker.popen.send_signal(number)
    worker.popen.wait(60)
    assert worker.popen.returncode == 0
    assert "runs 7 jobs at a time. Ctrl-C ends it." in worker.output
    assert worker.output.rstrip().endswith("The worker has ended.")
    assert "Traceback" not in worker.output
    assert site.rows("SELECT id FROM notifications_worker") == []


def test_a_hang_up_does_not_stop_it_under_nohup(site):
    """It ignores the signal if the process that has started it does."""
    site.environment["EMBEDDED_WORKER"] = "0"
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from django.core.management import execute_from_command_line as run; run(['manage.py', 'run_jobs'])"
    )
    worker = site.start("worker", "-c", code)
    worker.wait_for_line("Ctrl-C ends it.")
    worker.popen.send_signal(signal.SIGHUP)
    site.python("from tests.jobs.tasks import *; noop.enqueue()")
    worker.wait_until(
        lambda: site.rows("SELECT state FROM notifications_job") == [("succeeded",)], what="a job to be done"
    )


def test_programs_that_tasks_start_do_not_read_the_input_of_the_worker(site):
    """It may be a pipe that stays open, as under supervisord."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.python("from tests.commands.test_worker_processes import read_input; read_input.enqueue()")
    read, write = os.pipe()
    with open(read, "rb") as input, open(write, "wb"):
        start = partial(site.start_program, ["manage.py", "run_jobs", "--until-idle"], input=input)
        worker = Process(["run_jobs"], log=site.folder / "worker.log", start=start)
        assert worker.popen.wait(90) == 0
    assert site.rows("SELECT result FROM notifications_job") == [('""',)]


@pytest.mark.django_db(transaction=True)
def test_until_idle_runs_the_backlog_of_a_removed_backend(capsys):
    tasks.noop.enqueue()
    Job.objects.filter(id=tasks.noop_sync.enqueue().id).update(backend="removed")
    call_command("run_jobs", "--until-idle")
    assert set(Job.objects.values_list("state", flat=True)) == {"succeeded"}


@pytest.mark.database_law
@pytest.mark.django_db(transaction=True)
def test_until_idle_ends_without_tables(monkeypatch):
    """As where the tables of another app have its label, or each tenant has a schema. Else it would wait for them."""
    monkeypatch.setattr(Job._meta, "db_table", "notifications_jobs")
    words = "there is no table notifications_jobs. Its migrations are applied"
    with pytest.raises(CommandError, match=words):
        call_command("run_jobs", "--until-idle", skip_checks=True)
    monkeypatch.undo()
    MigrationRecorder(connection).record_unapplied("notifications", "0001_streams")
    monkeypatch.setattr(Job._meta, "db_table", "notifications_jobs")
    try:
        with pytest.raises(CommandError, match=r"Run manage\.py migrate\."):
            call_command("run_jobs", "--until-idle", "--processes=2", skip_checks=True)
    finally:
        MigrationRecorder(connection).record_applied("notifications", "0001_streams")


@pytest.mark.django_db(transaction=True)
def test_until_idle_ends_while_the_database_is_away():
    away = pytest.raises(CommandError, match=r"Database error: The database is away\. Try again\.")
    with refused("notifications_"), away:
        call_command("run_jobs", "--until-idle", skip_checks=True)
