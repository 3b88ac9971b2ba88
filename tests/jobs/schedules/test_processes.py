"""Which processes enqueue the jobs of schedules: workers, and server processes where an engine runs the jobs."""

import threading
from datetime import timedelta

import pytest

from notifications.jobs.engines import handover
from notifications.jobs.schedules.declarations import declared_schedules
from notifications.models import Tick
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def each_second(settings):
    """A schedule is due each second."""
    schedules = {"poll": {"task": "tests.jobs.tasks.noop", "every": timedelta(seconds=1)}}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SCHEDULES": schedules}
    assert declared_schedules()


def wait_for_ticks(**fields):
    wait_until(
        lambda: Tick.objects.filter(outcome="enqueued", **fields).count() >= 2, timeout=60, what="ticks"
    )


def test_worker(each_second, start_worker):
    """It enqueues the jobs, runs them and records how they ended."""
    start_worker()
    wait_for_ticks(job_state="succeeded")


def test_server_process_with_an_engine(each_second, with_engine):
    """No worker lives here; the process that hands jobs over to the engine enqueues them."""
    loop = handover.HandoverLoop()
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        wait_until(lambda: Tick.objects.filter(outcome="enqueued").exists(), timeout=60, what="a tick")
    finally:
        loop.stop()
        thread.join(60)
    assert not thread.is_alive()


def test_worker_goes_on_after_an_error_of_one_schedule(each_second, start_worker, monkeypatch):
    """As of a cron expression that cronsim cannot compute, or of a module that raises."""
    from notifications.jobs.schedules import ticks

    failed = []

    class FailsOnce(ticks.DueTicks):
        def __init__(self, *args):
            if not failed:
                failed.append(1)
                raise RuntimeError("once")
            super().__init__(*args)

    monkeypatch.setattr(ticks, "DueTicks", FailsOnce)
    start_worker()
    wait_for_ticks()
    assert failed
