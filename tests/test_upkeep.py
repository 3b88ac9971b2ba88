"""In each arrangement of processes that the docs allow, some process does the upkeep of all jobs and streams."""

import asyncio
import threading
import time
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace

import pytest
from asgiref.sync import sync_to_async
from django.db import DataError, OperationalError, ProgrammingError, connection
from django.utils import timezone

from notifications import upkeep
from notifications.db import unavailable
from notifications.engines import handover
from notifications.ids import uuid7
from notifications.jobs.worker import loops, maintenance
from notifications.models import AlertState, Job, Notification, PendingMark, Worker
from notifications.models.statistics import JobStatistics
from notifications.streams import inbox, marking
from tests.jobs import tasks
from tests.jobs.conftest import (  # noqa: F401 (fixtures)
    gate,
    longest_backoff,
    short_join_idle,
    start_worker,
    with_engine,
)
from tests.statistics.test_folding import write
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

LONG_AGO = timedelta(days=40)


@pytest.fixture
def worker(start_worker):  # noqa: F811
    """`manage.py run_jobs`, beside servers of any kind."""
    start_worker()


@pytest.fixture
def server_of_rq(with_engine):  # noqa: F811
    """ASGI servers and RQ, which has a process for each job: its row is the oldest one."""
    now = timezone.now()
    lease = {"lease_until": now + timedelta(hours=1), "started_at": now}
    Worker.objects.create(id=uuid7(), host="h", process="", queues="engine:rq", concurrency=1, **lease)
    loop = handover.HandoverLoop()
    thread = threading.Thread(target=loop.run)
    thread.start()
    yield
    loop.stop()
    thread.join(60)


@pytest.fixture
def observing_worker(monkeypatch):
    """WSGI servers and workers that only observe Celery's tasks."""
    celery = pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")
    from notifications.contrib.celery import main_process

    monkeypatch.setattr(main_process, "ROUND_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(main_process, "ROUND_JITTER_SECONDS", 0.0)
    app = celery.Celery("observing", broker="memory://", set_as_current=False)
    process = main_process.MainProcess(app, "nobody@nowhere", ["celery"])
    process.start()
    yield
    process.stop()


@pytest.mark.parametrize("processes", ["worker", "server_of_rq", "observing_worker"])
def test_upkeep(request, monkeypatch, user, processes):
    for name in ("PRUNE_INTERVAL_SECONDS", "FIRST_PRUNE_DELAY_SECONDS", "FOLD_INTERVAL_SECONDS"):
        monkeypatch.setattr(upkeep, name, 0.1)
    monkeypatch.setattr("notifications.operations.alerts.evaluation.CHECK_INTERVAL_SECONDS", 0.1)
    write(time.time() - 600)
    tasks.noop.using(owner=user, backend="default").enqueue()
    Job.objects.update(state="succeeded", seq=None, finished_at=timezone.now())
    (old,) = inbox.create_notifications(user, "old")
    (unread,) = inbox.create_notifications(user, "unread")
    Notification.objects.filter(id=old).update(archived_at=timezone.now() - LONG_AGO)
    marking.save_pending(marking.Mark(user=user.pk, verb="read", moment=timezone.now(), up_to=2))
    request.getfixturevalue(processes)

    wait_until(lambda: not PendingMark.objects.exists(), what="the inbox to be marked as read")
    assert Notification.objects.get(id=unread).read_at
    wait_until(lambda: not Job.objects.filter(seq=None).exists(), what="the job to be numbered")
    wait_until(lambda: AlertState.objects.exists(), what="the alerts to be evaluated")
    wait_until(lambda: not JobStatistics.objects.filter(shard__gt=0).exists(), what="the folding")
    wait_until(lambda: not Notification.objects.filter(id=old).exists(), what="the pruning")


def raising(error):
    """Return a function that raises an error."""

    def fail():
        raise error

    return fail


@pytest.mark.parametrize("error", [RuntimeError, ConnectionRefusedError, DataError, ProgrammingError])
def test_one_duty_that_fails_keeps_no_other_from_being_done(caplog, error):
    """Neither does one that the database refuses for good."""
    done = []
    duties = upkeep.Upkeep(seconds=0.05, may_reap=lambda: False, is_chosen=lambda: False)
    duties._duties = (
        upkeep.Duty("break", 0, raising(error("broken"))),
        upkeep.Duty("go on", 0, lambda: done.append(1)),
    )
    duties.run_round()
    assert done == [1]
    assert "Could not break, which is tried again" in caplog.text


@pytest.fixture
def not_migrated(monkeypatch):
    """Return a function that raises the error of the database for a column that does not exist."""
    monkeypatch.setattr(unavailable, "_logged_at", None)

    def read():
        with connection.cursor() as cursor:
            cursor.execute("SELECT missing FROM notifications_stream")

    return read


def lines(caplog):
    assert not [record for record in caplog.records if record.exc_info]
    return [record.getMessage() for record in caplog.records]


def test_database_that_is_not_migrated_is_logged_once_a_minute(caplog, not_migrated, monkeypatch):
    """Not one traceback for each duty in each round."""
    duties = upkeep.Upkeep(seconds=0.05, may_reap=lambda: False, is_chosen=lambda: False)
    duties._duties = (upkeep.Duty("break", 0, not_migrated), upkeep.Duty("break too", 0, not_migrated))
    for _ in range(3):
        duties.run_round()
    (line,) = lines(caplog)
    assert "The database is not migrated, run manage.py migrate: " in line and "missing" in line
    monkeypatch.setattr(unavailable, "MIGRATE_LOG_INTERVAL_SECONDS", 0)
    duties.run_round()
    assert len(lines(caplog)) == 2


def test_worker_on_a_database_that_is_not_migrated(caplog, not_migrated, monkeypatch):
    """Its loops go on, and log it once a minute together."""
    monkeypatch.setattr(loops, "RETRY_INTERVAL_SECONDS", 0)
    for module, name in ((upkeep.streams, "number_pending"), (maintenance.ticks, "run_round")):
        monkeypatch.setattr(module, name, not_migrated)
    monkeypatch.setattr(maintenance, "ROUND_INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr(maintenance, "MIN_CHUNK_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(upkeep, "continue_marking", lambda *args: not_migrated())
    calls = []

    async def write(call, *args):
        calls.append(call)
        return await sync_to_async(call)(*args)

    async def run():
        lease = SimpleNamespace(may_reap=lambda: False, worker=None)
        for loop in [maintenance.Maintenance(lease, write, lambda: None).run_duties]:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await loops.run_forever(loop)

    asyncio.run(run())
    assert len(calls) > 10
    assert len(lines(caplog)) == 1


def test_alerts_are_evaluated_once_an_interval():
    """That they were evaluated does not mean that there is more to do."""
    duties = upkeep.Upkeep(seconds=0.05, may_reap=lambda: False, is_chosen=lambda: False)
    [duty] = [duty for duty in duties._duties if duty.name == "evaluate alerts"]
    assert not duties.run(duty)
    assert AlertState.objects.exists()
    assert duty.due_at > time.monotonic() + duty.interval - 1


def test_database_that_is_away_ends_the_round():
    """The caller closes its connections, and the other duties would only wait too."""
    done = []
    duties = upkeep.Upkeep(seconds=0.05, may_reap=lambda: False, is_chosen=lambda: False)
    duties._duties = (
        upkeep.Duty("read", 0, raising(OperationalError("away"))),
        upkeep.Duty("go on", 0, lambda: done.append(1)),
    )
    with pytest.raises(OperationalError):
        duties.run_round()
    assert done == []


@pytest.mark.parametrize("error", [OperationalError, DataError, RuntimeError])
def test_each_duty_of_a_worker_gets_its_turn(monkeypatch, error):
    """Also beside one that fails in each round, and one that always has more to do."""
    monkeypatch.setattr(maintenance, "ROUND_INTERVAL_SECONDS", 0.05)
    done = []

    async def write(call, *args):
        return call(*args)

    lease = SimpleNamespace(may_reap=lambda: False, worker=None)
    worker = maintenance.Maintenance(lease, write, lambda: None)
    worker._upkeep._duties = (
        upkeep.Duty("break", 0, raising(error("broken"))),
        upkeep.Duty("go on for ever", 0, lambda: done.append("more") or True),
        upkeep.Duty("go on", 0, lambda: done.append("last")),
    )

    async def run():
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await worker.run_duties()

    asyncio.run(run())
    assert done.count("last") >= 3 and done.count("more") >= 6
