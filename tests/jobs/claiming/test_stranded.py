"""Jobs that wait in vain: staff see it, and the log says it once."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from notifications.jobs.claiming import queues, stranded
from notifications.models import Job, Worker
from notifications.testing import connect
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
LONG_AGO = timedelta(seconds=60)


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(stranded, "_is_warned", False)


@pytest.fixture
def waiting():
    """A job that is queued for a minute."""
    result = tasks.noop.using(title="Patience", queue_name="reports").enqueue()
    Job.objects.update(queued_at=timezone.now() - LONG_AGO)
    return Job.objects.get(id=result.id)


def in_vain():
    return list(stranded.unserved())


def test_without_a_worker(waiting, live):
    live(-1)
    tasks.noop.enqueue()
    assert in_vain() == [waiting]


@pytest.mark.parametrize(("takes", "vain"), [("", False), ("mail,reports", False), ("mail", True)])
def test_with_a_worker(waiting, live, takes, vain):
    Worker.objects.filter(id=live()).update(queues=takes)
    assert in_vain() == [waiting] * vain


def test_what_waits_for_something_else(waiting):
    """For its time, or for its queue."""
    Job.objects.update(run_after=timezone.now())
    assert in_vain() == []
    Job.objects.update(run_after=timezone.now() - LONG_AGO)
    assert in_vain() == [waiting]
    queues.pause("reports")
    assert in_vain() == []


def test_behind_what_a_lost_worker_runs(waiting, live, settings):
    """Its queue is full, and nobody is there to see that the worker is gone."""
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"reports": 1}}}}
    running = tasks.noop.using(queue_name="reports", priority=1).enqueue()
    assert [str(job.id) for job in claim_rows(live(-1), 5)] == [running.id]
    assert in_vain() == [waiting]


def test_the_log_says_it_once(waiting, live, caplog):
    """And again when it begins again."""
    for said in (1, 1):
        stranded.warn()
        assert len(caplog.records) == said
    worker = live()
    stranded.warn()
    Worker.objects.filter(id=worker).delete()
    stranded.warn()
    assert [f"Job {waiting.id} of queue reports waits" in record.message for record in caplog.records] == [
        True
    ] * 2


def test_a_server_says_it(waiting, demo, caplog, monkeypatch):
    """Where no worker is alive there is nobody else."""
    monkeypatch.setattr("notifications.realtime.clock.TICK", 0.02)
    with connect(demo):
        wait_until(lambda: "waits for over 10 s" in caplog.text, what="the warning")


def test_staff_see_it(waiting, live, admin_client, capsys):
    words = "waiting for a worker"
    assert words in admin_client.get("/admin/notifications/job/").text
    assert words in admin_client.get(f"/admin/notifications/job/{waiting.id}/change/").text
    call_command("jobs", "list")
    assert words in capsys.readouterr().out
    live()
    answer = admin_client.get("/admin/notifications/job/").text
    assert words not in answer and "Queued" in answer
    call_command("jobs", "list")
    assert words not in capsys.readouterr().out
