"""In each arrangement of processes that the docs allow, some process does the upkeep of all jobs and streams."""

import asyncio
import threading
import time
from contextlib import suppress
from datetime import timedelta

import pytest
from django.utils import timezone

from notifications import duties, upkeep
from notifications.contrib.engines import process, server
from notifications.contrib.engines.worker import MessageSlot
from notifications.contrib.operations.models import AlertState, JobStatistics
from notifications.extension import Upkeep, Where
from notifications.jobs import notifying
from notifications.jobs.claiming.sources import Source
from notifications.models import Job, Notification, PendingMark, Worker, uuid7
from notifications.realtime.hub import current_hub
from notifications.streams import marking, marking_all
from tests.contrib.operations.statistics.test_roll_up import write
from tests.jobs import tasks
from tests.jobs.conftest import (  # noqa: F401 (fixtures)
    gate,
    longest_backoff,
    short_join_idle,
    start_worker,
    with_engine,
)
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.nightly_on_postgres,
    pytest.mark.nightly_on_old_django,
]

LONG_AGO = timedelta(days=40)


class Processes:
    """Starts, in this process, what each kind of process runs, and stops it after the test."""

    def __init__(self, request):
        self.request = request

    def start(self, kind):
        getattr(self, kind)(self.request.addfinalizer)

    def run_jobs(self, at_end):
        """`manage.py run_jobs`, or a server with the embedded worker."""
        self.request.getfixturevalue("start_worker")()

    def asgi(self, at_end):
        """An ASGI server, as far as it serves pages, without what `begin_serving` starts."""
        loop, hubs = asyncio.new_event_loop(), []

        async def make_hub():
            hubs.append(current_hub())

        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        asyncio.run_coroutine_threadsafe(make_hub(), loop).result(10)

        def stop():
            asyncio.run_coroutine_threadsafe(hubs[0].close(), loop).result(20)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()

        at_end(stop)

    def begin_serving(self, at_end):
        """What an ASGI server of a project starts whose jobs an engine runs."""
        self.request.getfixturevalue("with_engine")
        loop = server.ServerUpkeep()
        self.request.getfixturevalue("monkeypatch").setattr(server, "_upkeep", loop)
        server.start()
        at_end(lambda: loop.stop(20))

    def process_of_rq(self, at_end):
        """It has ended with its job; its row is the oldest one."""
        now = timezone.now()
        lease = {"lease_until": now + timedelta(hours=1), "started_at": now}
        Worker.objects.create(id=uuid7(), host="h", process="", queues="engine:rq", concurrency=1, **lease)

    def process_of_engine(self, at_end):
        """A process of db_worker, or of Celery's pools "threads" and "solo", or a child of "prefork", that works."""
        self.request.getfixturevalue("with_engine")
        worker = process._start("recording")
        slot = MessageSlot(Source(backends=("default",), queues=("default",)))
        worker.state.call_in_loop(lambda: worker._slots.add(slot))

        def stop():
            process.stop(0)
            process._worker, process._is_stopping = None, False

        at_end(stop)

    def celery(self, at_end):
        """The main process of a Celery worker."""
        pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")
        from notifications.contrib.celery import main_process

        self.request.getfixturevalue("monkeypatch").setattr(main_process, "ROUND_INTERVAL_SECONDS", 0.05)
        started = main_process.MainProcess(["celery"])
        started.wake()
        at_end(lambda: started.stop(20))


#: What the docs allow, by the processes that last. Servers under WSGI do nothing between two requests.
ARRANGEMENTS = {
    "ASGI with the embedded worker": ["asgi", "run_jobs"],
    "ASGI and run_jobs": ["asgi", "run_jobs"],
    "WSGI and run_jobs": ["run_jobs"],
    "WSGI and idle Celery workers": ["celery"],
    "ASGI and idle Celery workers": ["asgi", "celery"],
    "WSGI and Celery workers": ["process_of_engine", "celery"],
    "WSGI and db_worker": ["process_of_engine"],
    "ASGI and db_worker": ["asgi", "begin_serving", "process_of_engine"],
    "ASGI and RQ": ["asgi", "begin_serving", "process_of_rq"],
    "WSGI, RQ and run_jobs": ["process_of_rq", "run_jobs"],
}


@pytest.mark.parametrize("kinds", [pytest.param(*item[1:], id=item[0]) for item in ARRANGEMENTS.items()])
def test_each_duty_is_done_in_each_arrangement(request, monkeypatch, set_bounds, transactional_db, kinds):
    """Whatever its process is. A duty that is new is done too, or this test names it."""
    done = set()
    set_bounds(polls=0.05)

    def recorded(process):
        found = duties.list_duties(process)
        for duty in found:
            duty.every, duty.due_at, duty.condition, duty.subjects = 0.1, 0.0, None, None
            duty.run = lambda name=duty.name: done.add(name) or 0.1
        return found

    monkeypatch.setattr(upkeep, "list_duties", recorded)
    processes = Processes(request)
    for kind in kinds:
        processes.start(kind)
    names = {duty.name for duty in duties.list_duties(Upkeep(Where.WORKER, seconds=0.05))}
    by_timer = {"queue jobs that are due"}  # in workers
    with suppress(AssertionError):  # the next one names what is missing
        wait_until(lambda: done | by_timer == names, timeout=20, what="all duties to be done")
    assert done | by_timer == names


@pytest.mark.parametrize(
    "kinds", [["run_jobs"], ["begin_serving", "process_of_rq"], ["celery"]], ids="-".join
)
def test_upkeep(request, set_bounds, settings, user, kinds):
    set_bounds(duties=0.1, delays=0.1)
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ALERTS": {"interval": 0.1}}
    write(time.time() - 600)
    tasks.noop.using(owner=user, backend="default").enqueue()
    Job.objects.update(state="succeeded", seq=None, finished_at=timezone.now())
    (old,) = notifying.create_notifications(user, "old")
    (unread,) = notifying.create_notifications(user, "unread")
    Notification.objects.filter(id=old).update(archived_at=timezone.now() - LONG_AGO)
    marking_all.save_pending(marking.Mark(user=user.pk, verb="read", moment=timezone.now(), up_to=2))
    processes = Processes(request)
    for kind in kinds:
        processes.start(kind)

    wait_until(lambda: not PendingMark.objects.exists(), what="the inbox to be marked as read")
    assert Notification.objects.get(id=unread).read_at
    wait_until(lambda: not Job.objects.filter(seq=None).exists(), what="the job to be numbered")
    wait_until(lambda: AlertState.objects.exists(), what="the alerts to be evaluated")
    wait_until(lambda: not JobStatistics.objects.filter(shard__gt=0).exists(), what="the roll-up")
    wait_until(lambda: not Notification.objects.filter(id=old).exists(), what="the pruning")
