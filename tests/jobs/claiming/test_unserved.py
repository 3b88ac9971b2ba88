"""Jobs in queues that no live worker serves are found, shown to staff and logged once."""

import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from notifications.jobs.claiming.unserved import wait_warning, warn_of_unserved_jobs
from notifications.management import pause_queue
from notifications.models import Job, Worker
from notifications.testing import connect
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

LONG_WAIT = timedelta(seconds=60)


@pytest.fixture(autouse=True)
def no_warning_logged_before(monkeypatch):
    monkeypatch.setattr(wait_warning, "has_warned", False)


@pytest.fixture
def waiting():
    """A job that has been queued for a minute."""
    result = tasks.noop.using(title="Report", queue_name="reports").enqueue()
    Job.objects.update(queued_at=timezone.now() - LONG_WAIT)
    return Job.objects.get(id=result.id)


@pytest.fixture
def unserved(capsys):
    """unserved() returns the jobs that wait because no process takes them."""

    def find():
        capsys.readouterr()
        call_command("notifications", "jobs", "list", "--json")
        items = map(json.loads, capsys.readouterr().out.splitlines())
        return [Job.objects.get(id=item["id"]) for item in items if item["waits"] == "no_worker"]

    return find


def test_without_a_worker(waiting, live_worker, unserved):
    live_worker(-1)
    tasks.noop.enqueue()
    assert unserved() == [waiting]


@pytest.mark.parametrize(
    ("queue_names", "is_unserved"), [("", False), ("mail,reports", False), ("mail", True)]
)
def test_with_a_worker(waiting, live_worker, queue_names, is_unserved, unserved):
    Worker.objects.filter(id=live_worker()).update(queues=queue_names)
    assert unserved() == [waiting] * is_unserved


def test_with_a_worker_that_is_asked_to_claim_no_more(waiting, live_worker, unserved):
    Worker.objects.filter(id=live_worker()).update(request=Worker.Request.QUIET)
    assert unserved() == [waiting]


def test_jobs_that_may_not_run_yet_are_not_unserved(waiting, unserved):
    """They wait for run_after, or for their queue to be resumed."""
    Job.objects.update(run_after=timezone.now(), due_at=timezone.now())
    assert unserved() == []
    Job.objects.update(run_after=timezone.now() - LONG_WAIT, due_at=timezone.now() - LONG_WAIT)
    assert unserved() == [waiting]
    pause_queue("reports")
    assert unserved() == []


def test_a_queue_filled_by_a_lost_worker(waiting, live_worker, settings, unserved):
    """The queue is at its limit, and no live worker requeues the jobs of the lost one."""
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"reports": 1}}}}
    running = tasks.noop.using(queue_name="reports", priority=1).enqueue()
    assert [str(job.id) for job in claim_rows(live_worker(-1), 5)] == [running.id]
    assert unserved() == [waiting]


def test_one_warning_is_logged(waiting, live_worker, caplog):
    """Another one follows only after the jobs were served in between."""
    for _ in range(2):
        warn_of_unserved_jobs()
        assert len(caplog.records) == 1
    worker = live_worker()
    warn_of_unserved_jobs()
    Worker.objects.filter(id=worker).delete()
    warn_of_unserved_jobs()
    text = f"No live worker takes queue reports: job {waiting.id} has waited for over 10 s."
    assert [record.message.startswith(text) for record in caplog.records] == [True, True]


def test_a_server_logs_the_warning(waiting, user, caplog, short_ticks):
    """Without a worker, servers are the only processes that can."""
    with connect(user):
        wait_until(lambda: "No live worker takes queue" in caplog.text, what="the warning")


def test_admin_and_command_show_it(waiting, live_worker, admin_client, capsys):
    text = "aiting for a worker"
    assert text in admin_client.get("/admin/notifications/job/").text
    assert text in admin_client.get(f"/admin/notifications/job/{waiting.id}/change/").text
    call_command("notifications", "jobs", "list")
    assert text in capsys.readouterr().out
    live_worker()
    page = admin_client.get("/admin/notifications/job/").text
    assert text not in page and "Queued" in page
    call_command("notifications", "jobs", "list")
    assert text not in capsys.readouterr().out
