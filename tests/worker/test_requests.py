"""Workers do what staff request in the admin: start no more jobs, start them again, end."""

import pytest

from notifications.management import pause_queue
from notifications.models import Job, Worker
from tests.jobs import tasks
from tests.jobs.conftest import until_done, until_state
from tests.support.waiting import wait_until


@pytest.fixture
def short_lease(settings):
    """A lease that is renewed, and with it the request read, ten times a second."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "LEASE": 0.4}


@pytest.fixture
def worker(short_lease, start_worker):
    worker = start_worker()
    wait_until(Worker.objects.exists, what="the worker to start")
    return worker


def request(worker, text):
    Worker.objects.filter(id=worker.id).update(request=text)


def test_a_quiet_worker_starts_no_more_jobs(worker, gate):
    """Those that run continue to their end. When the request is withdrawn it starts the others."""
    running = tasks.hold.enqueue()
    until_state(running, "running")
    request(worker, Worker.Request.QUIET)
    wait_until(lambda: worker.worker.state.is_quiet, what="the worker to be quiet")
    waiting = tasks.noop.enqueue()
    gate.set()
    until_done(running)
    with pytest.raises(AssertionError):
        wait_until(
            lambda: Job.objects.get(pk=waiting.id).state != "queued", timeout=2, what="the job to start"
        )
    request(worker, "")
    until_done(waiting)


def test_a_quiet_worker_starts_jobs_for_which_its_jobs_wait(worker):
    """Or they would wait for ever."""
    pause_queue("other")
    parent = tasks.counted_parent.enqueue("other")
    wait_until(lambda: Job.objects.filter(queue_name="other").exists(), what="the child to be queued")
    request(worker, Worker.Request.QUIET)
    wait_until(lambda: worker.worker.state.is_quiet, what="the worker to be quiet")
    pause_queue("other", is_paused=False)
    assert until_done(parent)[0].state == "succeeded"


def test_a_worker_ends_on_request(worker):
    """As at SIGTERM: its row is deleted when its jobs are done."""
    request(worker, Worker.Request.STOP)
    wait_until(lambda: not Worker.objects.exists(), what="the worker to end")
