"""Maintenance: pruning by one worker, and marking inboxes as read."""

import asyncio
import threading
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import DataError, OperationalError, connection
from django.utils import timezone

from notifications import duties
from notifications.api import notify
from notifications.extension import Duty, Upkeep, Where
from notifications.models import Attempt, DutyRun, Job, Notification, PendingMark, Stream
from notifications.testing import run_jobs
from notifications.worker import Lease, loops, maintenance
from tests.contrib.engines.conftest import idle_engine  # noqa: F401 (fixture)
from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.support.statements import preceded, refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def prune_often(set_bounds):
    """Prune at once, and again every tenth of a second."""
    set_bounds(polls=0.1, duties=0.1)


def make_old(days=31):
    old = timezone.now() - timedelta(days=days)
    Job.objects.update(finished_at=old)
    Notification.objects.update(archived_at=old)


def make_upkeep(**runs):
    """Return the upkeep of a process that has these duties, each in every round."""
    process = Upkeep(Where.WORKER, seconds=0.05)
    process.duties = [Duty(name, 0, run, is_for_each_process=True) for name, run in runs.items()]
    return process


def raising(error):
    """Return a function that raises an error."""

    def fail():
        raise error

    return fail


@pytest.fixture
def not_migrated(forgotten_log):
    """Return a function that raises the error of the database for a column that does not exist."""

    def read():
        with connection.cursor() as cursor:
            cursor.execute("SELECT notifications_stream.missing FROM notifications_stream")

    return read


def lines(caplog):
    assert not [record for record in caplog.records if record.exc_info]
    return [record.getMessage() for record in caplog.records]


def lease_of(row):
    lease = Lease(queues=[], concurrency=1, load=int)
    lease.worker = row
    return lease


def test_a_worker_prunes_rows_past_their_retention(prune_often, user, make_user, start_worker):
    """Jobs with their attempts, notifications, and the rows of deleted users; the floor rises."""
    tasks.fail.using(owner=user).enqueue()
    run_jobs()
    deleted = make_user("deleted")
    notify(deleted, "note")
    get_user_model()._base_manager.filter(pk=deleted.pk)._raw_delete("default")
    make_old()
    kept = notify(user, "kept")
    start_worker()
    wait_until(lambda: not Stream.objects.filter(user=deleted.pk).exists(), what="the worker to prune")
    assert list(Notification.objects.values_list("id", flat=True)) == kept
    assert not Job.objects.exists() and not Attempt.objects.exists()
    assert Stream.objects.get(user=user).floor == 2


def test_the_retention_setting(prune_often, user, start_worker, settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "RETENTION": timedelta(days=90)}
    tasks.noop.using(owner=user).enqueue()
    run_jobs()
    make_old(31)
    start_worker()
    pruned = set()

    def is_pruned():
        pruned.update(DutyRun.objects.filter(name="prune old rows").values_list("last_run_at", flat=True))
        return len(pruned) > 3

    wait_until(is_pruned, what="the worker to prune")
    assert Job.objects.filter(user=user).exists()


def test_one_of_two_workers_prunes(prune_often, user, start_worker):
    """After its end the other one does. While it has more to do, it goes on."""
    pruned = []
    with preceded('"archived_at" <', lambda: pruned.append(threading.current_thread()), times=None):
        first = start_worker()
        start_worker()
        wait_until(lambda: len(pruned) > 6, what="pruning")
        first.stop()
        stopped = len(pruned)
        wait_until(lambda: len(pruned) > stopped + 3, what="the other worker to prune")
    assert len(set(pruned[-3:])) == 1


def test_pruning_after_a_database_outage(prune_often, user, start_worker, caplog):
    """Pruning is tried again, and jobs run."""
    notify(user, "old")
    make_old()
    with refused('DELETE FROM "?notifications_notification', times=2) as tries:
        start_worker()
        until_done(tasks.noop.enqueue())
        wait_until(lambda: not Notification.objects.exists(), what="the pruning")
    assert len(tries) == 2
    assert "Could not prune old rows, which is tried again" in caplog.text


async def test_schedules_wait_longer_while_the_database_is_unavailable(set_bounds, caplog):
    """Each worker would otherwise connect ten times a second. The log repeats the error after an interval."""
    set_bounds(known=0.6)
    worker = maintenance.Maintenance(lease_of(None), None, None)
    [run_schedules] = worker.own_loops
    with refused("options IS NULL") as rounds:
        running = asyncio.create_task(loops.run_to_end(run_schedules))
        async with asyncio.timeout(60):
            while caplog.text.count("The worker waits for the database") < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        running.cancel()
    await worker.end(5)
    assert 2 <= len(rounds) <= 3  # at 0, 0.5 and 1 s


async def test_the_writer_runs_other_calls_between_chunks(monkeypatch, user, event_loop_database):
    """One chunk is one call of the writer, so a claim waits for one chunk at most."""
    calls = []

    class Step:
        left = 3

        def run(self, run):
            self.left -= 1
            return max(self.left, 0)

    async def write(work, *args):
        calls.append([duty.name for duty in args[0]])
        return await sync_to_async(work)(*args)

    monkeypatch.setattr(duties, "find_steps", lambda before, finds_orphans: [Step()])
    worker = maintenance.Maintenance(lease_of(None), write, None)
    prune = next(duty for duty in worker._upkeep.duties if duty.name == "prune old rows")
    prune.is_for_each_process, prune.due_at = True, 0.0
    worker._upkeep.duties = [prune]
    task = asyncio.create_task(worker.run_duties())
    while len(calls) < 4:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    task.cancel()
    assert calls == [["prune old rows"]] * 4


def test_a_worker_marks_an_inbox_as_read(user, start_worker):
    """The process that answered the request has ended before it marked all notifications."""
    for _ in range(3):
        notify(user, "note")
    PendingMark.objects.create(user=user, verb="read", moment=timezone.now(), after=0, up_to=2)
    start_worker()
    wait_until(lambda: not PendingMark.objects.exists(), what="the worker to mark them")
    assert list(Notification.objects.filter(read_at=None).values_list("raised", flat=True)) == [3]


def test_a_worker_runs_the_jobs_of_an_engine_that_was_removed(start_worker, settings):
    """Without a duty that moves them, and those of a backend that ``TASKS`` has no more."""
    results = [tasks.noop.enqueue(), tasks.noop_sync.enqueue()]
    Job.objects.filter(id=results[1].id).update(backend="removed")
    start_worker()
    wait_until(
        lambda: set(Job.objects.values_list("state", flat=True)) == {"succeeded"}, what="the jobs to end"
    )


def test_a_worker_leaves_a_backlog_to_a_new_engine(idle_engine, start_worker):  # noqa: F811
    """Jobs that were enqueued before their backend had an engine."""
    backlog = tasks.noop.enqueue().id
    other = tasks.noop.enqueue().id
    Job.objects.filter(id=other).update(backend="builtin")
    start_worker()
    wait_until(lambda: Job.objects.get(id=other).done, what="the job of another backend to end")
    assert Job.objects.get(id=backlog).state == "queued"


def test_worker_on_a_database_that_is_not_migrated(caplog, not_migrated, set_bounds):
    """Its loops go on, and log it once a minute together."""
    set_bounds(polls=0.01)
    calls, is_repeated = [], asyncio.Event()

    async def write(call, *args):
        calls.append(call)
        if len(calls) > 10:
            is_repeated.set()
        return await sync_to_async(call)(*args)

    async def run():
        lease = SimpleNamespace(may_reap=lambda: False, worker=None)
        worker = maintenance.Maintenance(lease, write, lambda: None)
        running = asyncio.create_task(loops.run_to_end(worker.run_duties))
        with preceded("notifications_notification", not_migrated, times=None):
            async with asyncio.timeout(30):
                await is_repeated.wait()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(run())
    assert len(lines(caplog)) == 1


@pytest.mark.parametrize("error", [OperationalError, DataError, RuntimeError])
def test_each_duty_of_a_worker_gets_its_turn(set_bounds, error):
    """Also beside one that fails in each round, and one that always has more to do."""
    set_bounds(polls=0.05)
    done = []

    async def write(call, *args):
        return call(*args)

    lease = SimpleNamespace(may_reap=lambda: False, worker=None)
    worker = maintenance.Maintenance(lease, write, lambda: None)
    worker._upkeep.duties = make_upkeep(
        break_=raising(error("broken")),
        go_on_for_ever=lambda: done.append("more") or True,
        go_on=lambda: done.append("last"),
    ).duties

    async def run():
        rounds = asyncio.create_task(loops.run_to_end(worker.run_duties))
        async with asyncio.timeout(30):
            while done.count("last") < 3 or done.count("more") < 6:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        rounds.cancel()
        with suppress(asyncio.CancelledError):
            await rounds

    asyncio.run(run())
