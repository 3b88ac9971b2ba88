"""Jobs of an engine that wait because no process of it is alive are found, shown to staff and logged once."""

import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from notifications.contrib.engines import unserved
from notifications.jobs.claiming.unserved import warn_of_unserved_jobs
from notifications.management import pause_queue
from notifications.models import Job
from tests.contrib.engines.conftest import wait_long
from tests.jobs import tasks

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def job(idle_engine):
    """A job of the engine that has been queued for a minute."""
    id = tasks.noop.using(title="Report", queue_name="reports").enqueue().id
    wait_long()
    return Job.objects.get(id=id)


@pytest.fixture
def unserved_jobs(capsys):
    """unserved_jobs() returns the jobs that wait because no process takes them."""

    def find():
        capsys.readouterr()
        call_command("notifications", "jobs", "list", "--json")
        items = map(json.loads, capsys.readouterr().out.splitlines())
        return [Job.objects.get(id=item["id"]) for item in items if item["waits"] == "no_worker"]

    return find


def test_without_a_process(job, engine_process, live_worker, unserved_jobs):
    """Neither a process whose lease is over counts, nor a built-in worker."""
    engine_process(seconds=-1)
    live_worker()
    tasks.noop.enqueue()
    assert unserved_jobs() == [job]


def test_with_a_process(job, engine_process, unserved_jobs):
    engine_process()
    assert unserved_jobs() == []


def test_jobs_that_may_not_run_yet_are_not_unserved(job, unserved_jobs):
    """They wait for run_after, or for their queue to be resumed."""
    Job.objects.update(
        run_after=timezone.now() + timedelta(hours=1), due_at=timezone.now() + timedelta(hours=1)
    )
    assert unserved_jobs() == []
    Job.objects.update(run_after=None, due_at=None)
    pause_queue("reports")
    assert unserved_jobs() == []


def test_an_engine_that_cannot_be_set_up_has_no_process(job, engine_process, settings, unserved_jobs):
    engine_process()
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"engine": "no.such.engine"}}}
    assert unserved_jobs() == [job]
    warn_of_unserved_jobs()


def test_one_warning_is_logged(job, engine_process, caplog, unserved_jobs):
    """Another one follows only after a process was alive in between."""
    for _ in range(2):
        warn_of_unserved_jobs()
        text = (
            f"No process of Idle takes queue reports: job {job.id} has waited for over 10 s. Start a process of Idle "
            "that takes the queue reports."
        )
        assert [record.message for record in caplog.records] == [text]
    engine_process()
    warn_of_unserved_jobs()
    assert len(caplog.records) == 1


def test_admin_and_command_show_it(job, engine_process, admin_client, capsys):
    text = "aiting for Idle"
    pages = ("/admin/notifications/job/", f"/admin/notifications/job/{job.id}/change/")
    assert all(text in admin_client.get(page).text for page in pages)
    call_command("notifications", "jobs", "list")
    assert text in capsys.readouterr().out
    engine_process()
    assert not any(text in admin_client.get(page).text for page in pages)
    call_command("notifications", "jobs", "list")
    assert text not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("taken", "found"),
    [({"default"}, ["reports"]), ({"reports"}, [])],
    ids=["another queue", "this queue"],
)
def test_queue_that_no_process_takes(job, idle_engine, engine_process, taken, found, unserved_jobs):
    engine_process()
    idle_engine.taken = taken
    assert unserved.untaken_queues(idle_engine, timezone.now()) == found
    assert [job.queue_name for job in unserved_jobs()] == found


@pytest.mark.parametrize(
    ("load", "running", "found"),
    [
        (0, None, ["reports"]),
        (1, None, []),  # all may be busy with what was queued earlier
        (1, "mail", ["reports"]),
        (1, "reports", []),
    ],
)
def test_queue_that_no_process_seems_to_take(job, idle_engine, engine_process, load, running, found):
    """Where the engine does not know it: by jobs that wait while processes are idle, and jobs that run."""
    engine_process(load=load)
    if running:
        id = tasks.noop.using(queue_name=running).enqueue().id
        Job.objects.filter(id=id).update(state="running", attempt=1)
    assert unserved.untaken_queues(idle_engine, timezone.now()) == found
